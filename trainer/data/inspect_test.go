package data

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"slices"
	"strings"
	"testing"
)

// A shard of several pieces and two bytes a token: nothing of it is counted twice.
func TestInspectReadsEveryPiece(t *testing.T) {
	const n = pieceBytes + 300
	tokens := make([]int32, n)
	for i := range tokens {
		tokens[i] = int32('a' + i%2)
		if i%1000 == 999 {
			tokens[i] = 0
		}
	}
	tokens[n-1] = 299
	bytes := make([]byte, 2*n)
	putTokens(bytes, tokens, 2)
	path := raw(t, Header{TokenBytes: 2, Vocab: 300}, bytes)
	shard, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := Inspect(shard, Bytes{}, 3, 4)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(bytes)
	if info.Digest != hex.EncodeToString(sum[:]) || info.Path != path || info.Tokens != n || info.TokenBytes != 2 || info.Vocab != 300 {
		t.Errorf("%+v", info)
	}
	if info.Used != 4 || info.Documents != n/1000 {
		t.Errorf("%d tokens are used in %d documents, want 4 in %d", info.Used, info.Documents, n/1000)
	}
	var want []string
	for i := range 3 {
		want = append(want, string(Bytes{}.Decode(nil, tokens[(n-4)/3*i:][:4])))
	}
	if !slices.Equal(info.Samples, want) {
		t.Errorf("samples %q, want %q", info.Samples, want)
	}
	if none, err := Inspect(shard, Bytes{}, 0, 4); err != nil || none.Samples != nil {
		t.Errorf("no samples: %+v, %v", none, err)
	}
}

func TestInspectVerifies(t *testing.T) {
	path := writeShard(t, 200, ramp(5000, 200))
	shard, err := open(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer shard.Close()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err == nil {
		_, err = f.WriteAt([]byte{1}, headerBytes)
	}
	if err != nil || f.Close() != nil {
		t.Fatal(err)
	}
	if _, err := Inspect(shard, Bytes{}, 1, 4); err == nil || !strings.Contains(err.Error(), "checksum") {
		t.Errorf("a damaged shard: error %v", err)
	}
}
