package kernels

// An Exchanger is a [Device] that also does a round's work between replicas where the
// parameters are, so that only encoded bytes and hashes leave it. Both kinds of Device that
// train have it. The outer steps and Rebase compute what package optim's functions of the
// same names do, to the bit.
type Exchanger interface {
	// Difference sets dst to a − b: DiLoCo's Δ = φ − θ, or NoLoCo's with the other sign.
	Difference(dst, a, b Buffer)
	// Nesterov is optim.Nesterov's Step.
	Nesterov(slow, momentum, delta Buffer, lr, mu float32)
	// NoLoCo is optim.NoLoCo's Step, NoLoCoFast its StepFast.
	NoLoCo(slow, momentum, meanDelta, meanSlow Buffer, alpha, beta, gamma float32)
	NoLoCoFast(slow, momentum, meanFast Buffer, alpha, beta float32)
	// Rebase is optim.Rebase: fast = to + (fast − from).
	Rebase(fast, from, to Buffer)

	// Encode fills dst with the encoding of src, f.EncodedLen(src.Len()) bytes: what
	// Format.Encode writes and returns.
	Encode(dst []byte, f Format, src Buffer) int
	// Decode and DecodeAdd do what Format's do with bytes that Check has found sound.
	Decode(dst Buffer, f Format, src []byte)
	DecodeAdd(dst Buffer, f Format, src []byte, weight float32)

	// Hash sets dst, HashLen(x.Len()) bytes, to what [HashLeaves] gives for the values of x
	// as little-endian float32: the SHA-256 of each leaf of HashLeaf values, in order.
	Hash(dst []byte, x Buffer)
}
