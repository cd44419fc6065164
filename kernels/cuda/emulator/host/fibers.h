#pragma once
#include <string>

#include "../../src/gpu.h"

namespace emulator {

extern int schedule;                 // 1 ascending, 2 descending, else a seed
extern long conflicts, matrix_loads; // 8 rows of a matrix: extra cycles, and how often
extern std::string failure;

// run runs every block of a launch; false leaves the reason in failure.
bool run(const Kernel &k, const int grid[3], int block, int shared, void **args);

}  // namespace emulator
