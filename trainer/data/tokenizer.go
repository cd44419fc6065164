package data

import (
	"fmt"
	"strings"
)

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

// tokenizers are those that a configuration may name. A new one is a file of its own and an
// entry here.
var tokenizers = []Tokenizer{Bytes{}}

// TokenizerNames lists what TokenizerByName accepts.
func TokenizerNames() []string {
	var names []string
	for _, t := range tokenizers {
		names = append(names, t.Name())
	}
	return names
}

// TokenizerByName returns the tokenizer of that name; an unknown one is an error that
// lists what is allowed.
func TokenizerByName(name string) (Tokenizer, error) {
	for _, t := range tokenizers {
		if t.Name() == name {
			return t, nil
		}
	}
	return nil, fmt.Errorf("data: tokenizer %q: unknown, choose one of %s", name, strings.Join(TokenizerNames(), ", "))
}
