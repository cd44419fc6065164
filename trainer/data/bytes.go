package data

// Bytes is the tokenizer whose tokens are bytes. NUL, which text does not contain,
// separates documents.
type Bytes struct{}

var _ Tokenizer = Bytes{}

// Name implements Tokenizer.
func (Bytes) Name() string { return "bytes" }

// Vocab implements Tokenizer.
func (Bytes) Vocab() int { return 256 }

// Separator implements Tokenizer.
func (Bytes) Separator() int32 { return 0 }

// Encode implements Tokenizer.
func (Bytes) Encode(dst []int32, text []byte) []int32 {
	for _, b := range text {
		dst = append(dst, int32(b))
	}
	return dst
}

// Decode implements Tokenizer.
func (Bytes) Decode(dst []byte, tokens []int32) []byte {
	for _, t := range tokens {
		if t >= 0 && t < 256 {
			dst = append(dst, byte(t))
		}
	}
	return dst
}
