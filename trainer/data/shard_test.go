package data

import (
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// writeShard writes tokens as a shard and returns its path.
func writeShard(t testing.TB, vocab int, tokens []int32) string {
	t.Helper()
	w, err := newShardWriter(t.TempDir(), vocab)
	if err != nil {
		t.Fatal(err)
	}
	for piece := range slices.Chunk(tokens, 1000) {
		if err := w.write(piece); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(filepath.Dir(w.file.Name()), "x.shard")
	if err := w.commit(path); err != nil {
		t.Fatal(err)
	}
	return path
}

func ramp(n, vocab int) []int32 {
	out := make([]int32, n)
	for i := range out {
		out[i] = int32(i * 7919 % vocab)
	}
	return out
}

// Both ways of reading, for every width of a token.
func TestShardGivesBackItsTokens(t *testing.T) {
	for _, vocab := range []int{1, 200, 256, 257, 65536, 128256} {
		want := ramp(100_000, vocab)
		path := writeShard(t, vocab, want)
		for _, limit := range []int64{loadMax, 0} {
			s, err := open(path, limit)
			if err != nil {
				t.Fatal(err)
			}
			if (s.loaded == nil) != (limit == 0) {
				t.Errorf("vocabulary %d, limit %d: loaded %v", vocab, limit, s.loaded != nil)
			}
			got := make([]int32, s.Len())
			if err := s.Read(got, 0); err != nil || !slices.Equal(got, want) {
				t.Errorf("vocabulary %d, limit %d: tokens differ, %v", vocab, limit, err)
			}
			if err := s.Read(got[:3], 99_997); err != nil || !slices.Equal(got[:3], want[99_997:]) {
				t.Errorf("vocabulary %d, limit %d: the last tokens differ, %v", vocab, limit, err)
			}
			for _, at := range []int64{-1, 99_998, 1 << 62} {
				if err := s.Read(got[:3], at); err == nil {
					t.Errorf("tokens from %d on were read", at)
				}
			}
			if n := testing.AllocsPerRun(10, func() {
				if err := s.Read(got[:300], 5); err != nil {
					t.Fatal(err)
				}
			}); n != 0 {
				t.Errorf("limit %d: Read allocates %v times", limit, n)
			}
			if err := s.Verify(); err != nil {
				t.Error(err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestDamagedShardIsNamed(t *testing.T) {
	path := writeShard(t, 200, ramp(5000, 200))
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	flipped := slices.Clone(good)
	flipped[headerBytes+3000] ^= 1
	wide := slices.Clone(good) // a token outside the vocabulary under a right checksum
	wide[headerBytes+3000] = 255
	binary.LittleEndian.PutUint32(wide[32:], crc32.Checksum(wide[headerBytes:], castagnoli))
	binary.LittleEndian.PutUint32(wide[36:], crc32.Checksum(wide[:36], castagnoli))
	for name, c := range map[string]struct {
		raw  []byte
		want string
	}{
		"empty":   {nil, "cut short"},
		"short":   {good[:len(good)-1], "5039 bytes, its header says 5040"},
		"long":    {append(slices.Clone(good), 0), "5041 bytes"},
		"flipped": {flipped, "checksum"},
		"wide":    {wide, "token 255 at offset 3040"},
		"other":   {[]byte(strings.Repeat("not a shard ", 10)), "not a shard"},
	} {
		if err := os.WriteFile(path, c.raw, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Open(path)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: error %v, want one with the path and %q", name, err, c.want)
		}
		if s, err := open(path, 0); err == nil {
			if err := s.Verify(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s, not loaded: error %v, want one with %q", name, err, c.want)
			}
			if err := s.Read(make([]int32, 5000), 0); name == "wide" && err == nil {
				t.Error("a token outside the vocabulary was read")
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	if _, err := Open(path + ".none"); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("no file: error %v", err)
	}
}

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
