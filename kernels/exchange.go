package kernels

// An Exchanger is a [Device] that also does a round's work between replicas where the
// parameters are, so that only encoded bytes leave it. Both kinds of Device that train have it.
// The outer steps are those of package optim, value by value, each operation in float32 and
// rounded: the same bits on every device.
type Exchanger interface {
	// Difference sets dst to a − b. dst may be one of them.
	Difference(dst, a, b Buffer)
	// Nesterov sets momentum = mu·momentum + delta, slow = slow − lr·(delta + mu·momentum).
	Nesterov(slow, momentum, delta Buffer, lr, mu float32)
	// NoLoCo sets momentum = alpha·momentum + beta·meanDelta − gamma·(slow − meanSlow) and adds
	// it to slow.
	NoLoCo(slow, momentum, meanDelta, meanSlow Buffer, alpha, beta, gamma float32)
	// NoLoCoFast sets momentum = alpha·momentum + beta·(meanFast − slow) and adds it to slow.
	NoLoCoFast(slow, momentum, meanFast Buffer, alpha, beta float32)
	// Rebase sets fast = to + (fast − from).
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
