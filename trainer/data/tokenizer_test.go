package data

import (
	"fmt"
	"slices"
	"testing"
)

func TestBytesRoundTrip(t *testing.T) {
	text := "package a // ünï\x00\xff"
	tokens := Bytes{}.Encode([]int32{5}, []byte(text))
	if got := (Bytes{}).Decode([]byte("y"), tokens[1:]); string(got) != "y"+text || tokens[0] != 5 {
		t.Errorf("decoded %q, want %q", got, "y"+text)
	}
	if got := (Bytes{}).Decode(nil, []int32{-1, 256, 'a'}); string(got) != "a" {
		t.Errorf("tokens outside the vocabulary decode to %q", got)
	}
}

func TestBytesAreBytes(t *testing.T) {
	b := Bytes{}
	if b.Name() != "bytes" || b.Vocab() != 256 || b.Separator() != 0 {
		t.Errorf("%s of %d tokens, separator %d", b.Name(), b.Vocab(), b.Separator())
	}
	for i := range int32(256) {
		if got := b.Encode(nil, []byte{byte(i)}); !slices.Equal(got, []int32{i}) {
			t.Errorf("byte %d is token %v", i, got)
		}
		if got := b.Decode(nil, []int32{i}); !slices.Equal(got, []byte{byte(i)}) {
			t.Errorf("token %d is %v", i, got)
		}
	}
}

func TestTokenizerByName(t *testing.T) {
	names := TokenizerNames()
	if !slices.Contains(names, "bytes") {
		t.Errorf("tokenizers %v", names)
	}
	for _, name := range names {
		tokenizer, err := TokenizerByName(name)
		if err != nil || tokenizer.Name() != name {
			t.Fatalf("%s: %v", name, err)
		}
		if s := tokenizer.Separator(); s < 0 || int(s) >= tokenizer.Vocab() {
			t.Errorf("%s: separator %d of %d tokens", name, s, tokenizer.Vocab())
		}
		// What every tokenizer promises.
		text := "package a // ünï\n"
		if got := string(tokenizer.Decode(nil, tokenizer.Encode(nil, []byte(text)))); got != text {
			t.Errorf("%s: %q became %q", name, text, got)
		}
		if got := tokenizer.Decode(nil, []int32{-1, int32(tokenizer.Vocab())}); len(got) != 0 {
			t.Errorf("%s: tokens outside the vocabulary decode to %q", name, got)
		}
	}
	const want = `data: tokenizer "words": unknown, choose one of bytes`
	if tokenizer, err := TokenizerByName("words"); tokenizer != nil || err == nil || err.Error() != want {
		t.Errorf("%v, error %v, want %s", tokenizer, err, want)
	}
}

func ExampleTokenizerByName() {
	tokenizer, err := TokenizerByName("bytes")
	if err != nil {
		fmt.Println(err)
		return
	}
	tokens := tokenizer.Encode(nil, []byte("loco"))
	fmt.Println(tokens, string(tokenizer.Decode(nil, tokens)))
	// Output: [108 111 99 111] loco
}
