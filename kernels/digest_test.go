package kernels_test

import (
	"crypto/sha256"
	"testing"

	"loco/kernels"
	"loco/kernels/cpu"
)

// A digest is the hash of the leaves' hashes, at any length, and a device's leaves give it.
func TestDigestIsTheHashOfTheLeavesHashes(t *testing.T) {
	d, err := cpu.New(2, kernels.FP32)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, values := range []int{0, 1, 1024, 1025, kernels.DigestPiece / 4, kernels.DigestPiece/4 + 1, 3*kernels.DigestPiece/4 + 5} {
		x, err := d.Alloc(values)
		if err != nil {
			t.Fatal(err)
		}
		v := make([]float32, values)
		for i := range v {
			v[i] = float32(i%251) / 7
		}
		d.Upload(x, v)
		raw := make([]byte, 4*values)
		kernels.FormatFP32.Encode(raw, v)
		leaves, onDevice := make([]byte, kernels.HashLen(values)), make([]byte, kernels.HashLen(values))
		kernels.HashLeaves(leaves, raw)
		d.Hash(onDevice, x)
		want := sha256.Sum256(leaves)
		if got := kernels.Digest(raw); got != want || sha256.Sum256(onDevice) != want {
			t.Errorf("%d values: %x of the bytes, %x on the device, want %x", values, got[:8], onDevice[:8], want[:8])
		}
	}
}
