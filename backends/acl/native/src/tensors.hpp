// Values in and out of a mapped ACL tensor, whose rows ACL may have padded.
#ifndef NEVER_SLOWER_TENSORS_HPP
#define NEVER_SLOWER_TENSORS_HPP

#include "problem.hpp"

#include "arm_compute/core/ITensor.h"

#include <string>

// Fills every element with the same small number, or with zeros as the bias needs them.
void fill_constant(arm_compute::ITensor &tensor, bool zero);

// Reads a file of float32 in C order. Throws BadRequest where the file does not fit.
void fill_from_file(arm_compute::ITensor &tensor, const Sizes &sizes, const std::string &file);

// Writes a file of float32 in C order. Throws BadRequest where it can't.
void write_to_file(arm_compute::ITensor &tensor, const Sizes &sizes, const std::string &file);

#endif
