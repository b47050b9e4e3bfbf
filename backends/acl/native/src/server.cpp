#include "server.hpp"

#include "compat.hpp"
#include "errors.hpp"
#include "fields.hpp"
#include "marks.h"

#include <chrono>
#include <utility>
#include <vector>

using nlohmann::json;

namespace
{
// An id is whatever integer the caller likes.
std::int64_t read_id(const json &request)
{
    const json &id = fields::get(request, "id");
    if (!id.is_number_integer())
    {
        throw BadRequest("field 'id' must be an integer");
    }
    return id.get<std::int64_t>();
}

json parse(const std::string &line)
{
    try
    {
        return json::parse(line);
    }
    catch (const json::exception &error)
    {
        throw BadRequest(std::string("not JSON: ") + error.what());
    }
}
} // namespace

Server::Server(const Options &options, Target &target) : _options(options), _target(target)
{
}

bool Server::empty() const
{
    return _layers.empty();
}

const std::map<std::string, Server::Operation> &Server::operations()
{
    static const std::map<std::string, Operation> known = {
        {"prepare", &Server::prepare}, {"output", &Server::output},   {"count", &Server::count},
        {"dispatch", &Server::dispatch}, {"run", &Server::run},       {"profile", &Server::profile},
        {"drop", &Server::drop}};
    return known;
}

json Server::answer(const std::string &line, bool &quit)
{
    json answer = {{"id", nullptr}};
    try
    {
        serve(parse(line), answer, quit);
    }
    catch (const Refused &refusal)
    {
        answer["refused"] = refusal.what();
    }
    catch (const std::exception &error)
    {
        answer["error"] = compat::describe(error);
    }
    return answer;
}

void Server::serve(const json &request, json &answer, bool &quit)
{
    if (!request.is_object())
    {
        throw BadRequest("a request must be an object");
    }
    if (request.contains("id"))
    {
        answer["id"] = read_id(request);
    }
    const std::string name = fields::text(request, "op");
    if (name == "quit")
    {
        quit = true;
        answer["ok"] = json::object();
        return;
    }
    const auto found = operations().find(name);
    if (found == operations().end())
    {
        std::vector<std::string> names;
        for (const auto &operation : operations())
        {
            names.push_back(operation.first);
        }
        throw BadRequest("no op '" + name + "'; has " + fields::join(names) + ", quit");
    }
    // Not in one line with the assignment: that may make an empty "ok" first, which would stay where this throws.
    json result = (this->*found->second)(request);
    answer["ok"] = std::move(result);
}

Layer &Server::layer(const json &request)
{
    const std::int64_t id = read_id(request);
    const auto found = _layers.find(id);
    if (found == _layers.end())
    {
        throw BadRequest("nothing is prepared as " + std::to_string(id));
    }
    return *found->second;
}

void Server::need_device_time(const std::string &operation) const
{
    if (_options.evidence != "device_time")
    {
        throw BadRequest(operation + " needs --evidence device_time");
    }
}

json Server::prepare(const json &request)
{
    const std::int64_t id = read_id(request);
    if (_layers.count(id) != 0)
    {
        throw BadRequest(std::to_string(id) + " is prepared already; drop it first");
    }
    std::unique_ptr<Layer> layer = _target.prepare(read_order(request));
    const json result = {{"chosen", layer->chosen()}};
    _layers[id] = std::move(layer);
    return result;
}

json Server::output(const json &request)
{
    fields::only(request, {"op", "id", "file"});
    const std::string file = fields::text(request, "file");
    Layer &wanted = layer(request);
    wanted.run();
    _target.finish();
    wanted.write_output(file);
    return json::object();
}

json Server::count(const json &request)
{
    fields::only(request, {"op", "id", "after"});
    if (_options.evidence != "instructions" || _options.target != "neon")
    {
        throw BadRequest("count needs --evidence instructions and --target neon");
    }
    const std::size_t after = fields::number(request, "after", 0);
    Layer &wanted = layer(request);
    for (std::size_t run = 0; run < after; ++run)
    {
        wanted.run();
    }
    // The marks are inside, so that what a plugin counts has nothing of the counter.
    _counter.start();
    never_slower_mark_begin();
    wanted.run();
    never_slower_mark_end();
    _counter.stop();
    std::uint64_t instructions = 0;
    const bool counted = _counter.read(instructions);
    return {{"instructions", counted ? json(instructions) : json()}};
}

json Server::dispatch(const json &request)
{
    fields::only(request, {"op", "id"});
    return {{"kernels", _target.dispatch(layer(request))}};
}

json Server::run(const json &request)
{
    using Clock = std::chrono::steady_clock;
    fields::only(request, {"op", "id", "iterations"});
    need_device_time("run");
    const std::size_t iterations = fields::number(request, "iterations", 1);
    Layer &wanted = layer(request);
    wanted.run_first();
    _target.finish();
    const Clock::time_point start = Clock::now();
    for (std::size_t iteration = 0; iteration < iterations; ++iteration)
    {
        wanted.run();
    }
    _target.finish();
    return {{"seconds", std::chrono::duration<double>(Clock::now() - start).count()}};
}

json Server::profile(const json &request)
{
    fields::only(request, {"op", "id"});
    need_device_time("profile");
    return {{"kernels", _target.profile(layer(request))}};
}

json Server::drop(const json &request)
{
    fields::only(request, {"op", "id"});
    layer(request);
    _layers.erase(read_id(request));
    return json::object();
}
