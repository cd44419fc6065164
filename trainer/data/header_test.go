package data

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"slices"
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

// Every check behind the checksum, by headers whose checksum is right.
func TestHeaderChecksBehindTheChecksum(t *testing.T) {
	good, err := AppendHeader(nil, Header{TokenBytes: 2, Vocab: 1000, Tokens: 7, DataCRC: 9})
	if err != nil {
		t.Fatal(err)
	}
	put := func(at int, value uint64, bytes int) []byte {
		h := slices.Clone(good)
		copy(h[at:at+bytes], binary.LittleEndian.AppendUint64(nil, value))
		binary.LittleEndian.PutUint32(h[36:], crc32.Checksum(h[:36], castagnoli))
		return h
	}
	for _, c := range []struct {
		header []byte
		want   string // of the error; empty: the header is read
	}{
		{put(8, 1, 4), ""},
		{put(8, 0, 4), "version 0 at offset 8, this program reads 1: prepare the data again"},
		{put(8, 2, 4), "version 2 at offset 8"},
		{put(20, 1, 4), "reserved field 1 at offset 20, want 0"},
		{put(23, 1, 1), "reserved field 16777216 at offset 20"},
		{put(12, 0, 4), "0 bytes a token at offset 12, allowed are 1, 2 and 4"},
		{put(12, 1, 4), "vocabulary of 1000 at offset 16 does not fit tokens of 1 bytes"},
		{put(12, 3, 4), "3 bytes a token"},
		{put(12, 4, 4), ""},
		{put(12, 5, 4), "5 bytes a token"},
		{put(12, 1<<31, 4), "bytes a token at offset 12"},
		{put(16, 0, 4), "vocabulary of 0 at offset 16 does not fit tokens of 2 bytes"},
		{put(16, 1, 4), ""},
		{put(16, 65536, 4), ""},
		{put(16, 65537, 4), "vocabulary of 65537"},
		{put(16, 1<<31, 4), "vocabulary of"},
		{put(24, 0, 8), ""},
		{put(24, 1<<48, 8), ""},
		{put(24, 1<<48+1, 8), "281474976710657 tokens at offset 24, at most 281474976710656 are allowed"},
		{put(24, 1<<63, 8), "tokens at offset 24"},
		{put(32, 0, 4), ""},
		{put(0, 'L', 1), "no magic at offset 0: not a shard"},
		{good[:headerBytes-1], "39 bytes, it has 40: the file is cut short"},
		{append(slices.Clone(good), 1, 2, 3), ""},
	} {
		_, err := parseHeader(c.header)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%x: error %v, want %q", c.header, err, c.want)
		}
	}
	bad := put(0, 'l', 1)
	bad[36] ^= 1
	sum := crc32.Checksum(bad[:36], castagnoli)
	want := fmt.Sprintf("checksum %#08x at offset 36, of the bytes before it %#08x: damaged", sum^1, sum)
	if _, err := parseHeader(bad); err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

func TestHeaderLimits(t *testing.T) {
	for _, c := range []struct {
		Header
		want string
	}{
		{Header{TokenBytes: 1, Vocab: 1}, ""},
		{Header{TokenBytes: 1, Vocab: 256, Tokens: tokensMax}, ""},
		{Header{TokenBytes: 2, Vocab: 1 << 16}, ""},
		{Header{TokenBytes: 4, Vocab: 1<<31 - 1}, ""},
		{Header{TokenBytes: 4, Vocab: 1 << 31}, "shard header: vocabulary of 2147483648 at offset 16 does not fit tokens of 4 bytes"},
		{Header{TokenBytes: 4, Vocab: 1 << 40}, "vocabulary of 1099511627776"},
		{Header{TokenBytes: 2, Vocab: 1<<16 + 1}, "vocabulary of 65537"},
		{Header{TokenBytes: 1, Vocab: 257}, "vocabulary of 257"},
		{Header{TokenBytes: 1, Vocab: 0}, "vocabulary of 0"},
		{Header{TokenBytes: 3, Vocab: 1}, "3 bytes a token"},
		{Header{TokenBytes: 1, Vocab: 1, Tokens: -1}, "-1 tokens at offset 24"},
		{Header{TokenBytes: 1, Vocab: 1, Tokens: tokensMax + 1}, "281474976710657 tokens"},
	} {
		got, err := AppendHeader([]byte("kept"), c.Header)
		if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || string(got) != "kept") {
			t.Errorf("%+v: %q, error %v, want %q", c.Header, got, err, c.want)
		}
	}
	for vocab, want := range map[int]int{1: 1, 255: 1, 256: 1, 257: 2, 65535: 2, 65536: 2, 65537: 4, 1<<31 - 1: 4} {
		if got := tokenBytes(vocab); got != want {
			t.Errorf("tokens of a vocabulary of %d take %d bytes, want %d", vocab, got, want)
		}
	}
}
