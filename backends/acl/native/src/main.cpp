// Runs Arm Compute Library's convolutions for never-slower: a request a line on stdin, an answer a line on stdout.
#include "compat.hpp"
#include "errors.hpp"
#include "options.hpp"
#include "server.hpp"
#include "target.hpp"

#include <nlohmann/json.hpp>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <malloc.h>
#include <memory>
#include <string>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

using nlohmann::json;

namespace
{
constexpr int cannot_start = 3;

// Takes stdout for the protocol alone; what ACL or a driver prints there goes to stderr from now on.
std::FILE *take_stdout()
{
    const int own = dup(STDOUT_FILENO);
    std::FILE *const protocol = own < 0 ? nullptr : fdopen(own, "w");
    if (protocol == nullptr || dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
    {
        std::perror("acl_runner: stdout");
        std::exit(cannot_start);
    }
    return protocol;
}

void send(std::FILE *protocol, const json &message)
{
    // A driver's text need not be UTF-8.
    const std::string line = message.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
    std::fputs(line.c_str(), protocol);
    std::fflush(protocol);
}

json hello(const Options &options)
{
    const std::string build = arm_compute::build_information();
    return {{"protocol", 1},
            {"acl", compat::version(build)},
            {"build", build},
            {"headers", compat::headers()},
            {"evidence", options.evidence},
            {"target", options.target},
            {"threads", options.threads},
            {"tuner", options.tuner},
            {"opencl", compat::has_opencl},
            {"gpu", nullptr}};
}

std::unique_ptr<Target> make_target(const Options &options)
{
    return options.target == "neon" ? make_neon(options) : make_opencl(options);
}

// Lets large blocks always come from mmap, at the same place in a page, and go back to the system when they are freed.
// By itself glibc raises the limit as a process goes on; then a measurement would depend on what was prepared before.
void fix_allocation()
{
    mallopt(M_MMAP_THRESHOLD, 128 * 1024);
}

enum class Served
{
    all,    // the caller has quit
    dropped // nothing is prepared any more
};

// Answers requests until the caller quits or, if `once`, until nothing is prepared.
Served serve(std::FILE *protocol, Server &server, bool once)
{
    std::string line;
    line.reserve(4096);
    bool quit = false;
    while (!quit && std::getline(std::cin, line))
    {
        send(protocol, server.answer(line, quit));
        if (once && !quit && server.empty())
        {
            return Served::dropped;
        }
    }
    return Served::all;
}

// Waits for a child, and dies of the same signal as it: by its signal a crash in ACL is told.
Served end_of(pid_t child)
{
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
    {
    }
    if (WIFSIGNALED(status))
    {
        std::signal(WTERMSIG(status), SIG_DFL);
        std::raise(WTERMSIG(status));
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == static_cast<int>(Served::dropped) ? Served::dropped
                                                                                         : Served::all;
}

// Counts every problem in a copy of the process as it was at the start. A count depends a little on where in memory
// things lie (some 100 instructions of 30 million, in 24.11), and so on what the process did before. This process does
// nothing itself between the copies, so the order of problems does not matter.
void serve_in_copies(std::FILE *protocol, const Options &options, Target &target)
{
    // A copy must not read ahead what belongs to the next one.
    std::setvbuf(stdin, nullptr, _IONBF, 0);
    Served served = Served::dropped;
    while (served == Served::dropped)
    {
        const pid_t child = fork();
        if (child < 0)
        {
            std::perror("acl_runner: fork");
            return;
        }
        if (child == 0)
        {
            prctl(PR_SET_PDEATHSIG, SIGKILL); // Whoever kills this process means its copy.
            Server server(options, target);
            std::_Exit(static_cast<int>(serve(protocol, server, true)));
        }
        served = end_of(child);
    }
}

int start(std::FILE *protocol, int count, char **arguments)
{
    Options options;
    try
    {
        read_options(count, arguments, options);
        std::unique_ptr<Target> target = make_target(options);
        json greeting = hello(options);
        greeting["gpu"] = target->gpu();
        send(protocol, {{"hello", greeting}});
        if (options.evidence == "instructions")
        {
            serve_in_copies(protocol, options, *target);
            return EXIT_SUCCESS;
        }
        Server server(options, *target);
        serve(protocol, server, false);
        return EXIT_SUCCESS;
    }
    catch (const CannotStart &error)
    {
        json greeting = hello(options);
        greeting["error"] = error.what();
        send(protocol, {{"hello", greeting}});
        return cannot_start;
    }
}
} // namespace

int main(int count, char **arguments)
{
    // The caller may be killed while a call of ACL's hangs: then nobody else would end this process.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    fix_allocation();
    std::FILE *const protocol = take_stdout();
    const int status = start(protocol, count, arguments);
    // ACL's and a driver's own globals are left to the system: the order in which they would go is theirs to get wrong.
    std::_Exit(status);
}
