package data

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
)

func TestHeaderGolden(t *testing.T) {
	h := Header{TokenBytes: 2, Vocab: 32000, Tokens: 0x1234567, DataCRC: 0xdeadbeef}
	got, err := AppendHeader([]byte("x"), h)
	if err != nil {
		t.Fatal(err)
	}
	const want = "78" + "6c6f636f73687264" + "01000000" + "02000000" + "007d0000" + "00000000" + "6745230100000000" + "efbeadde" + "ed01ef40"
	if hex.EncodeToString(got) != want {
		t.Errorf("header %x, want %s", got, want)
	}
	if back, err := parseHeader(got[1:]); err != nil || back != h {
		t.Errorf("parsed %+v, %v; want %+v", back, err, h)
	}
}

func TestHeaderRefuses(t *testing.T) {
	for _, h := range []Header{
		{TokenBytes: 3, Vocab: 256}, {TokenBytes: 1, Vocab: 257}, {TokenBytes: 1, Vocab: 0},
		{TokenBytes: 1, Vocab: 256, Tokens: -1}, {TokenBytes: 4, Vocab: 256, Tokens: tokensMax + 1},
	} {
		if _, err := AppendHeader(nil, h); err == nil {
			t.Errorf("%+v was written", h)
		}
	}
	good, err := AppendHeader(nil, Header{TokenBytes: 1, Vocab: 256, Tokens: 7})
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0x40
		if _, err := parseHeader(bad); err == nil {
			t.Errorf("a flipped bit of byte %d went unseen", i)
		}
		if _, err := parseHeader(good[:i]); err == nil || i >= 8 && !strings.Contains(err.Error(), "cut short") {
			t.Errorf("a header of %d bytes: error %v", i, err)
		}
	}
}

func FuzzParseHeader(f *testing.F) {
	good, err := AppendHeader(nil, Header{TokenBytes: 1, Vocab: 256, Tokens: 7, DataCRC: 1})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, src []byte) {
		h, err := parseHeader(src)
		if err != nil {
			return
		}
		back, err := AppendHeader(nil, h)
		if err != nil || !bytes.Equal(back, src[:headerBytes]) {
			t.Errorf("%x parsed to %+v and encoded to %x, %v", src[:headerBytes], h, back, err)
		}
	})
}
