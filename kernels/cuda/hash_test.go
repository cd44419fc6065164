//go:build cuda && linux && amd64

package cuda

import (
	"bytes"
	"fmt"
	"math"
	"testing"

	"loco/kernels"
)

// The device's hashes are those of the values' bytes: leaves whole and short, at addresses that
// allow 16 bytes at a time and at others, in one piece and in many.
func TestHashesHaveTheCPUsBits(t *testing.T) {
	d := device(t, kernels.BF16)
	defer d.Close()
	for _, n := range []int{0, 1, 12, 13, 14, 15, 16, 17, 29, 30, 1008, 1021, 1022, 1023, 1024, 1025, 5*1024 + 14, 131*1024 + 5} {
		for _, skip := range []int{0, 3} {
			v := make([]float32, skip+n)
			for i := range v {
				v[i] = math.Float32frombits(uint32(i)*2654435769 + uint32(n)) // NaNs and infinities among them
			}
			want := make([]byte, kernels.HashLen(n))
			kernels.HashLeaves(want, bytesOf(v[skip:]))
			x := upload(t, d, v).Slice(skip, skip+n)
			got := make([]byte, len(want))
			d.Hash(got, x)
			if !bytes.Equal(got, want) {
				t.Fatalf("%d values from %d: byte %d of the hashes differs", n, skip, firstDifference(got, want))
			}
			clear(got)
			if d.hash(got, x, 2); !bytes.Equal(got, want) { // more pieces than slots
				t.Fatalf("%d values from %d in pieces: byte %d of the hashes differs", n, skip, firstDifference(got, want))
			}
		}
	}
}

// A hash is of the values as Download gives them: halves that alone are current count as float32,
// and stay current.
func TestHashesOfHalvesHaveTheCPUsBits(t *testing.T) {
	d := device(t, kernels.BF16)
	defer d.Close()
	const rows, width = 33, 64
	in, weight, rstd := upload(t, d, hard(rows*width, 3)), upload(t, d, hard(width, 4)), upload(t, d, make([]float32, rows))
	out := upload(t, d, hard(rows*width+1024, 5))
	d.RMSNorm(out, rstd, in, weight, rows, width, 1e-5) // the first values are halves now, the rest floats
	m := d.of("test", out).home
	if m.current[floats].covers(0, rows*width) || !m.current[halves].covers(0, rows*width) {
		t.Fatal("the norm's output is not in halves")
	}
	got, want := make([]byte, kernels.HashLen(out.Len())), make([]byte, kernels.HashLen(out.Len()))
	d.Hash(got, out)
	if !m.current[halves].covers(0, rows*width) {
		t.Error("a hash makes halves stale")
	}
	kernels.HashLeaves(want, bytesOf(download(d, out)))
	if !bytes.Equal(got, want) {
		t.Fatalf("byte %d of the hashes differs", firstDifference(got, want))
	}
}

// A lost device returns no hash.
func TestHashAfterAnErrorIsZeros(t *testing.T) {
	if noDevice != "" {
		t.Skip(noDevice)
	}
	d, err := open(0, kernels.FP32, noBlas)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	x := upload(t, d, make([]float32, 2000))
	d.failed(fmt.Errorf("test: the device is lost"))
	got := bytes.Repeat([]byte{1}, kernels.HashLen(2000))
	if d.Hash(got, x); !bytes.Equal(got, make([]byte, len(got))) {
		t.Errorf("the hashes are %x", got)
	}
}
