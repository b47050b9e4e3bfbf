// Three kinds of failure, each of which becomes an answer of its own.
#ifndef NEVER_SLOWER_ERRORS_HPP
#define NEVER_SLOWER_ERRORS_HPP

#include <stdexcept>

// The library can't do it, or the method does not apply: nobody's mistake.
struct Refused : std::runtime_error
{
    using std::runtime_error::runtime_error;
};

// The request can't be read or served: the caller's mistake.
struct BadRequest : std::runtime_error
{
    using std::runtime_error::runtime_error;
};

// The process can't start: told in the hello, with the remedy.
struct CannotStart : std::runtime_error
{
    using std::runtime_error::runtime_error;
};

#endif
