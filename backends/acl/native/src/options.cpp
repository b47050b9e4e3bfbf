#include "options.hpp"

#include "errors.hpp"

#include <cstdlib>
#include <vector>

namespace
{
const char *const usage = "acl_runner --evidence device_time|instructions|dispatch --target neon|opencl "
                          "[--threads N] [--tuner]";

[[noreturn]] void wrong(const std::string &what)
{
    throw CannotStart(what + "; use: " + usage);
}

void check_word(const std::string &name, const std::string &value, const std::vector<std::string> &known)
{
    for (const std::string &word : known)
    {
        if (word == value)
        {
            return;
        }
    }
    wrong(value.empty() ? name + " is missing" : name + " can't be '" + value + "'");
}

int thread_count(const std::string &text)
{
    char *end = nullptr;
    const long threads = std::strtol(text.c_str(), &end, 10);
    if (text.empty() || *end != '\0' || threads < 1 || threads > 1024)
    {
        wrong("--threads can't be '" + text + "'");
    }
    return static_cast<int>(threads);
}

// What does not go together is refused at the start, not at every request.
void check_combination(const Options &options)
{
    if (options.evidence == "instructions" && options.target != "neon")
    {
        throw CannotStart("instructions are counted on the CPU: use --target neon");
    }
    if (options.evidence == "instructions" && options.threads != 1)
    {
        throw CannotStart("instructions are counted in one thread: leave --threads at 1");
    }
    if (options.evidence == "dispatch" && options.target != "opencl")
    {
        throw CannotStart("only OpenCL has a dispatch: use --target opencl");
    }
    if (options.tuner && options.target != "opencl")
    {
        throw CannotStart("only OpenCL has a tuner: leave --tuner out, or use --target opencl");
    }
}
} // namespace

void read_options(int count, char **arguments, Options &options)
{
    const std::vector<std::string> words(arguments + 1, arguments + count);
    for (std::size_t at = 0; at < words.size(); ++at)
    {
        const std::string &word = words[at];
        if (word == "--tuner")
        {
            options.tuner = true;
            continue;
        }
        if (word != "--evidence" && word != "--target" && word != "--threads")
        {
            wrong("there is no argument '" + word + "'");
        }
        if (++at == words.size())
        {
            wrong(word + " needs a value");
        }
        if (word == "--evidence")
        {
            options.evidence = words[at];
        }
        else if (word == "--target")
        {
            options.target = words[at];
        }
        else
        {
            options.threads = thread_count(words[at]);
        }
    }
    check_word("--evidence", options.evidence, {"device_time", "instructions", "dispatch"});
    check_word("--target", options.target, {"neon", "opencl"});
    check_combination(options);
}
