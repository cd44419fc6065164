package kernels

// An Exchanger is a [Device] that also does a round's work between replicas where the
// parameters are, so that only encoded bytes leave it. Both kinds of Device that train have it.
//
// Axpby and AxpbSum round each product and each sum to float32, in the order that the
// formula shows, and fuse nothing: the same bits on every device. All operands have one
// length, and dst may be any of them. Package optim has the outer steps that they make.
type Exchanger interface {
	// Axpby sets dst to a·x + b·y.
	Axpby(dst Buffer, a float32, x Buffer, b float32, y Buffer)
	// AxpbSum sets dst to a·x + b·(y + c·z).
	AxpbSum(dst Buffer, a float32, x Buffer, b float32, y Buffer, c float32, z Buffer)

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
