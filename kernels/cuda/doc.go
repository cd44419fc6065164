// Package cuda is a kernels.Device on an NVIDIA GPU, from compute capability 8.0 on: the kernels
// of src, as PTX, on the driver of package driver. It is built with -tags cuda, for Linux on
// amd64; without, [OpenAll] says so.
//
// # Forms of memory
//
// A buffer's values have two forms, float32 and bf16 halves, each with device memory of its own
// that is taken when something is first written in that form. The device knows for every range
// of a buffer which forms are current. With precision bf16 the operations whose results feed
// products and nothing else that needs more (RMSNorm's output, SwiGLU's, attention's, RoPE's,
// the gradients of these and of the logits) write halves alone; an operation that reads
// them as floats converts them, once. Parameters are current in both forms after an AdamW step, which
// writes the halves besides. So the activations between two products take 2 bytes a value of
// memory and of bandwidth, the residual stream, moments, gradients of parameters and all sums
// have float32, and no caller knows. With precision fp32 there are no halves.
//
// The first step takes the memory of each form, the steps after it none.
//
// # Arithmetic
//
// Products of halves are summed in float32 by the tensor cores, in an order that is the
// hardware's; where the outputs are too few for the multiprocessors k is cut into parts, whose
// sums are added in ascending order. Precision fp32 has the chains of fused multiply-adds that
// kernels.Device describes, and their bits. Nothing is added by atomic operations, so a step
// gives the same bits on every run on a card. Attention takes halves, keeps scores in float32
// registers, and rounds probabilities to halves for the product with the values; heads of more
// than 128 values, and fp32, take slower kernels that are float32 throughout, up to 256.
//
// # Errors
//
// The operations of a Device return no errors. The first error of the driver stays: the
// operations after it do nothing, Sum and SquaredNorm return NaN, Download gives NaNs, and
// [Device.Err] returns it.
package cuda
