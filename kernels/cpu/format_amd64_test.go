//go:build !noasm

package cpu

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"

	"loco/kernels"
)

// Blocks that go past the caches have the bytes of those that do not, wherever the
// destination begins, and however many they are; the first bad block is found.
func TestEncodingPastTheCaches(t *testing.T) {
	for _, p := range assembly(t) {
		for _, count := range []int{16, 17, 31, 32, 47, 50, 83} {
			n := count * kernels.CodecBlock
			x := codecValues(rand.New(rand.NewPCG(uint64(count), 1)), n, 1)
			want := make([]byte, count*int8BlockBytes)
			kernels.FormatInt8.Encode(want, x)
			for shift := range 68 {
				got, sound := guardedBytes(len(want), shift)
				if done := encodeInt8Past(p == &avx512Path, got, x); done != count || !bytes.Equal(got, want) || !sound() {
					t.Fatalf("%s, %d blocks, shifted by %d: %d are encoded, or others than plain Go's", p.name, count, shift, done)
				}
			}
			got, _ := guardedBytes(len(want), 4)
			for bad := range count {
				old := x[bad*kernels.CodecBlock+7]
				x[bad*kernels.CodecBlock+7] = float32(math.Inf(1))
				done := encodeInt8Past(p == &avx512Path, got, x)
				if done > bad || !bytes.Equal(got[:done*int8BlockBytes], want[:done*int8BlockBytes]) {
					t.Fatalf("%s, %d blocks, of which %d is infinite: %d are encoded, or others than plain Go's", p.name, count, bad, done)
				}
				x[bad*kernels.CodecBlock+7] = old
			}
		}
	}
}
