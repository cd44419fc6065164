package kernels

// Precision says in what a device multiplies matrices. Whatever it is, parameters,
// gradients, moments and activations are float32, and so are all sums.
type Precision string

// The precisions.
const (
	// Auto is BF16 where the processor multiplies bf16 values faster, else FP32.
	Auto Precision = "auto"
	// FP32 multiplies float32 values.
	FP32 Precision = "fp32"
	// BF16 rounds both operands of MatMul and of the linear layers to bf16, to nearest
	// even, subnormal values to zero. It needs a processor that multiplies them.
	BF16 Precision = "bf16"
)
