// The protocol, version 1: answers requests, a JSON object a line.
#ifndef NEVER_SLOWER_SERVER_HPP
#define NEVER_SLOWER_SERVER_HPP

#include "counter.hpp"
#include "options.hpp"
#include "target.hpp"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <map>
#include <memory>
#include <string>

class Server
{
public:
    Server(const Options &options, Target &target);

    // Returns the answer to one line, and sets `quit` where the line asks for the end.
    nlohmann::json answer(const std::string &line, bool &quit);

    // Tells whether nothing is prepared.
    bool empty() const;

private:
    using Json = nlohmann::json;
    using Operation = Json (Server::*)(const Json &request);

    static const std::map<std::string, Operation> &operations();

    void serve(const Json &request, Json &answer, bool &quit);
    Layer &layer(const Json &request);
    void need_device_time(const std::string &operation) const;

    Json prepare(const Json &request);
    Json output(const Json &request);
    Json count(const Json &request);
    Json dispatch(const Json &request);
    Json run(const Json &request);
    Json profile(const Json &request);
    Json drop(const Json &request);

    const Options _options;
    Target &_target;
    Counter _counter;
    std::map<std::int64_t, std::unique_ptr<Layer>> _layers;
};

#endif
