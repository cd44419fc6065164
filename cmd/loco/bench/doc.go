// Package bench measures what the operations of a training step, and whole steps,
// reach on this machine, beside what the machine can do at all.
//
// A [Case] is one operation at one shape, with the [Limit] that it is compared with:
// the fused multiply-adds that the same threads do on registers, or reading and
// writing memory of the same size in the same mix. [Standard] names the shapes;
// [Cases] makes the table that `loco bench kernels` and the benchmarks of package
// kernels run.
//
// # How it is measured
//
// Machines are shared and clocks change, so limit and operation take turns: limit,
// operation, limit, operation, ... Each round compares the operation with the mean
// of the limits just before and just after it. Reported are medians over the rounds. A
// sample repeats a short call until it takes about two milliseconds. So operands that
// fit a cache come from it, in the limit as in the operation.
package bench
