package codec

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"testing"
)

// pinnedValues returns a large vector with all that an encoder meets: blocks of every
// magnitude, of ties between two quantised values, of few values that are not 0, of
// nothing but zeros of both signs, and the largest and smallest numbers. Only integers
// make it, so that it is the same everywhere.
func pinnedValues(n int) []float32 {
	r := rand.New(rand.NewPCG(2110, 2861))
	x := make([]float32, n)
	for lo := 0; lo < n; lo += Block {
		block := x[lo:min(lo+Block, n)]
		power := float32(math.Ldexp(1, r.IntN(40)-30))
		switch kind := r.IntN(10); kind {
		case 0: // any finite bits
			for i := range block {
				block[i] = math.Float32frombits(r.Uint32() &^ (1 << 30))
			}
		case 1: // ties of int8 with scale power, of int4 with 18·power
			for i := range block {
				block[i] = float32(r.IntN(254)-127) / 2 * power
			}
			block[0] = 127 * power
		case 2: // sparse
			block[r.IntN(len(block))] = power
			block[r.IntN(len(block))] = -power / 3
		case 3: // zeros
			for i := range block {
				block[i] = math.Float32frombits(r.Uint32() & (1 << 31))
			}
		case 4: // around the smallest normal number
			for i := range block {
				block[i] = math.Float32frombits(r.Uint32() & 0x83ffffff)
			}
		case 5: // up to the largest number
			for i := range block {
				block[i] = math.Float32frombits(r.Uint32()&0x80ffffff | 0x7e800000&^0x00800000)
			}
			block[len(block)/2] = -math.MaxFloat32
		default: // a sum of four is nearly normal
			for i := range block {
				sum := int32(0)
				for range 4 {
					sum += int32(r.Uint32()>>12) - 1<<19
				}
				block[i] = float32(sum) * power
			}
		}
	}
	return x
}

// TestPinnedBytes compares the encoding of a large vector with testdata/pinned.json:
// the wire format of a codec that has been released may not change.
func TestPinnedBytes(t *testing.T) {
	text, err := os.ReadFile("testdata/pinned.json")
	if err != nil {
		t.Fatal(err)
	}
	var want map[string]string
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	x := pinnedValues(1<<20 + 77)
	for _, c := range all(t) {
		sum := sha256.Sum256(encode(t, c, x))
		if got := hex.EncodeToString(sum[:]); got != want[c.Name()] {
			t.Errorf("%s: SHA-256 %s, pinned is %s", c.Name(), got, want[c.Name()])
		}
	}
}
