package data

import (
	"encoding/binary"
	"fmt"
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
			one := []int32{-7}
			if err := s.Read(one, 77); err != nil || one[0] != want[77] {
				t.Errorf("vocabulary %d, limit %d: token 77 is %d, %v", vocab, limit, one[0], err)
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

// raw writes a shard of any header and tokens' bytes, under right checksums.
func raw(t testing.TB, h Header, tokens []byte) string {
	t.Helper()
	h.Tokens, h.DataCRC = int64(len(tokens)/h.TokenBytes), crc32.Checksum(tokens, castagnoli)
	all, err := AppendHeader(nil, h)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "raw.shard")
	if err := os.WriteFile(path, append(all, tokens...), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A token that is not in the vocabulary is found in tokens of any width, whatever the
// vocabulary: some fit fewer bytes.
func TestTokensOutsideTheVocabularyAreFound(t *testing.T) {
	for width, bits := range map[int]int{1: 8, 2: 16, 4: 31} {
		for bit := range bits {
			vocab := 1 << bit
			least, bad := make([]byte, width), make([]byte, 2*width)
			putTokens(least, []int32{int32(vocab - 1)}, width)
			putTokens(bad, []int32{0, int32(vocab)}, width)
			if _, err := Open(raw(t, Header{TokenBytes: width, Vocab: vocab}, least)); err != nil {
				t.Error(err)
			}
			want := fmt.Sprintf("token %d at offset %d, the vocabulary has %d", vocab, headerBytes+width, vocab)
			path := raw(t, Header{TokenBytes: width, Vocab: vocab}, bad)
			if _, err := Open(path); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%d bytes a token: error %v, want %q", width, err, want)
			}
		}
	}
	path := raw(t, Header{TokenBytes: 4, Vocab: 1<<31 - 1}, []byte{0, 0, 0, 0x80})
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "token 2147483648 at offset 40") {
		t.Errorf("a token of 2^31: error %v", err)
	}
}

// Tokens that take several pieces are all verified, whether they are loaded or not.
func TestEveryPieceIsVerified(t *testing.T) {
	const vocab, n = 1000, pieceBytes + 5
	tokens := make([]byte, 2*n)
	putTokens(tokens, ramp(n, vocab), 2)
	path := raw(t, Header{TokenBytes: 2, Vocab: vocab}, tokens)
	for _, limit := range []int64{2 * n, 2*n - 1} {
		s, err := open(path, limit)
		if err != nil {
			t.Fatal(err)
		}
		if (s.file == nil) != (limit == 2*n) || s.Len() != n || s.Path() != path {
			t.Errorf("limit %d: loaded %v, %d tokens of %s", limit, s.file == nil, s.Len(), s.Path())
		}
		if err := s.Verify(); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		for _, at := range []int{0, pieceBytes/2 - 1, pieceBytes / 2, pieceBytes - 1, pieceBytes, n - 1} {
			bad := slices.Clone(tokens)
			putTokens(bad[2*at:], []int32{vocab}, 2)
			want := fmt.Sprintf("token 1000 at offset %d, the vocabulary has 1000", headerBytes+2*at)
			s, err := open(raw(t, Header{TokenBytes: 2, Vocab: vocab}, bad), limit)
			if limit < 2*n && err == nil {
				err = s.Verify()
				if again := s.Read(make([]int32, 3), int64(max(0, at-2))); again == nil || !strings.Contains(again.Error(), want) {
					t.Errorf("Read: error %v, want %q", again, want)
				}
			}
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("limit %d: error %v, want %q", limit, err, want)
			}
		}
	}
}

func TestShardThatShrinksIsNamed(t *testing.T) {
	path := writeShard(t, 200, ramp(5000, 200))
	s, err := open(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := os.Truncate(path, headerBytes+100); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{"Read": s.Read(make([]int32, 60), 50), "Verify": s.Verify()} {
		at := map[string]int{"Read": 90, "Verify": 40}[what]
		if want := fmt.Sprintf("data: shard %s: read at offset %d: ", path, at); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: error %v, want %s…", what, err, want)
		}
	}
	if err := s.Read(make([]int32, 60), 40); err != nil {
		t.Errorf("what is there: %v", err)
	}
	for _, limit := range []int64{0, loadMax} {
		if _, err := open(filepath.Dir(path), limit); err == nil || !strings.Contains(err.Error(), "read at offset 0: ") {
			t.Errorf("a folder: error %v", err)
		}
	}
}

func TestReadOutsideNamesTheTokens(t *testing.T) {
	path := writeShard(t, 200, ramp(100, 200))
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Read(nil, 100); err != nil {
		t.Error(err)
	}
	for _, at := range []int64{-1, 98} {
		want := fmt.Sprintf("data: shard %s: tokens %d to %d of 100", path, at, at+3)
		if err := s.Read(make([]int32, 3), at); err == nil || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
	}
}

func TestShardWriterReportsErrors(t *testing.T) {
	if _, err := newShardWriter(filepath.Join(t.TempDir(), "none"), 256); err == nil || !strings.HasPrefix(err.Error(), "data: create shard: ") {
		t.Errorf("a folder that is not there: error %v", err)
	}
	dir := t.TempDir()
	closed := func() *shardWriter {
		w, err := newShardWriter(dir, 256)
		if err == nil {
			err = w.discard()
		}
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	if err := closed().write(make([]int32, 2*pieceBytes)); err == nil || !strings.HasPrefix(err.Error(), "data: write shard "+dir) {
		t.Errorf("a file that is closed: error %v", err)
	}
	w := closed()
	if err := w.write([]int32{1}); err != nil { // it is in the buffer
		t.Fatal(err)
	}
	path := filepath.Join(dir, "x.shard")
	if err := w.commit(path); err == nil || !strings.HasPrefix(err.Error(), "data: write shard "+path+": ") {
		t.Errorf("commit: error %v", err)
	}
	w, err := newShardWriter(dir, 256)
	if err != nil {
		t.Fatal(err)
	}
	w.Tokens = -1
	if err := w.commit(path); err == nil || !strings.Contains(err.Error(), "-1 tokens at offset 24") {
		t.Errorf("a header that may not be: error %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left in the folder: %v, %v", left, err)
	}
}

// Of any file Open gives an error or tokens of its vocabulary, as many as the file has.
func FuzzOpen(f *testing.F) {
	for _, width := range []int{1, 2, 4} {
		tokens := make([]byte, 12*width)
		putTokens(tokens, ramp(12, 200), width)
		text, err := os.ReadFile(raw(f, Header{TokenBytes: width, Vocab: 200}, tokens))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	path := filepath.Join(f.TempDir(), "any.shard")
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) >= headerBytes { // with right checksums, to see what is behind them
			if tokens := text[headerBytes:]; len(tokens)%2 == 0 {
				binary.LittleEndian.PutUint32(text[32:], crc32.Checksum(tokens, castagnoli))
				binary.LittleEndian.PutUint32(text[36:], crc32.Checksum(text[:36], castagnoli))
			}
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, limit := range []int64{0, loadMax} {
			s, err := open(path, limit)
			if err != nil {
				if !strings.Contains(err.Error(), path) {
					t.Errorf("error %v does not name the file", err)
				}
				continue
			}
			defer s.Close()
			if s.Len()*int64(s.TokenBytes) != int64(len(text)-headerBytes) {
				t.Fatalf("%d tokens of %d bytes in a file of %d", s.Len(), s.TokenBytes, len(text))
			}
			if s.Verify() != nil {
				continue
			}
			tokens := make([]int32, s.Len())
			if err := s.Read(tokens, 0); err != nil {
				t.Fatal(err)
			}
			for i, x := range tokens {
				if x < 0 || int(x) >= s.Vocab {
					t.Fatalf("token %d is %d, the vocabulary has %d", i, x, s.Vocab)
				}
			}
		}
	})
}
