package data

// Tokenizer turns text into tokens and back.
type Tokenizer interface {
	// Name identifies the tokenizer and its vocabulary; it is part of a run's identity.
	Name() string
	// Vocab is the number of tokens; every token is below it.
	Vocab() int
	// Separator is the token that ends a document. No text that Prepare accepts
	// contains it.
	Separator() int32
	// Encode appends the tokens of text to dst. Text comes in pieces of up to a
	// mebibyte; each is encoded by itself.
	Encode(dst []int32, text []byte) []int32
	// Decode appends the text of tokens to dst. A token outside the vocabulary
	// decodes to nothing.
	Decode(dst []byte, tokens []int32) []byte
}

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
