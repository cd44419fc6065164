package kerneltest

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"loco/kernels"
)

// checkMemory tests Alloc, views, and the copies to and from the host.
func checkMemory(t *testing.T, d kernels.Device) {
	if d.Name() == "" {
		t.Error("the device has no name")
	}
	for _, n := range []int{-1, math.MaxInt} {
		if _, err := d.Alloc(n); err == nil || !strings.Contains(err.Error(), fmt.Sprint(n)) {
			t.Errorf("Alloc(%d): error %v, want one that names the size", n, err)
		}
		if _, err := d.AllocTokens(n); err == nil || !strings.Contains(err.Error(), fmt.Sprint(n)) {
			t.Errorf("AllocTokens(%d): error %v, want one that names the size", n, err)
		}
	}
	b, err := d.Alloc(10)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]float32, 10)
	d.Download(got, b)
	for i, v := range got {
		if v != 0 {
			t.Errorf("value %d of new memory is %v, want 0", i, v)
		}
	}
	view := b.Slice(2, 8).Slice(1, 4) // values 3, 4 and 5
	if view.Len() != 3 {
		t.Errorf("a view of 3 values has length %d", view.Len())
	}
	d.Upload(view, []float32{1, 2, 3})
	d.Download(got, b)
	for i, want := range []float32{0, 0, 0, 1, 2, 3, 0, 0, 0, 0} {
		if got[i] != want {
			t.Errorf("after an upload to a view value %d is %v, want %v", i, got[i], want)
		}
	}
}

// checkShapes tests that a shape that does not fit panics, and that the message names
// the operation and both sizes.
func checkShapes(t *testing.T, d kernels.Device) {
	alloc := func(n int) kernels.Buffer {
		b, err := d.Alloc(n)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	three, six := alloc(3), alloc(6)
	tokens, err := d.AllocTokens(2)
	if err != nil {
		t.Fatal(err)
	}
	d.UploadTokens(tokens, []int32{1, 9})
	s := kernels.AttentionShape{Batch: 1, Seq: 1, Heads: 1, KVHeads: 1, HeadDim: 2}
	odd := kernels.AttentionShape{Batch: 1, Seq: 1, Heads: 3, KVHeads: 2, HeadDim: 2}
	for _, c := range []struct {
		call  func()
		names []string
	}{
		{func() { d.Upload(three, make([]float32, 5)) }, []string{"upload", "5", "3"}},
		{func() { d.Download(make([]float32, 5), three) }, []string{"download", "5", "3"}},
		{func() { d.UploadTokens(tokens, make([]int32, 5)) }, []string{"upload tokens", "5", "2"}},
		{func() { d.Copy(three, six) }, []string{"copy", "6", "3"}},
		{func() { d.Add(three, six) }, []string{"add", "6", "3"}},
		{func() { d.MatMul(three, six, six, 2, 2, 3, false, false, false) }, []string{"matmul", "c", "3", "4"}},
		{func() { d.MatMul(six, three, six, 2, 3, 2, false, false, false) }, []string{"matmul", "a", "3", "4"}},
		{func() { d.MatMul(six, six, three, 2, 3, 2, true, true, true) }, []string{"matmul", "b", "3", "6"}},
		{func() { d.MatMul(six, six, six, -1, 1, 1, false, false, false) }, []string{"matmul", "m", "-1"}},
		{func() { d.RMSNorm(six, three, six, three, 2, 4, 1e-5) }, []string{"rmsnorm", "6", "8"}},
		{func() { d.RMSNormBackward(six, three, six, six, three, three, 2, 4) }, []string{"rmsnorm backward", "6", "8"}},
		{func() { d.RoPE(three, three, three, s, false) }, []string{"rope", "3", "6"}},
		{func() { d.RoPE(six, three, three, odd, false) }, []string{"rope", "3", "2"}},
		{func() { d.Attention(three, three, three, s) }, []string{"attention", "3", "6"}},
		{func() { d.AttentionBackward(six, three, three, three, three, three, s) }, []string{"attention backward", "3", "6"}},
		{func() { d.SwiGLU(six, six, 2, 2) }, []string{"swiglu", "6", "8"}},
		{func() { d.SwiGLUBackward(six, six, six, 2, 2) }, []string{"swiglu backward", "6", "8"}},
		{func() { d.Embedding(six, six, tokens, 2, 3) }, []string{"embedding", "token 9", "2"}},
		{func() { d.Embedding(three, six, tokens, 2, 3) }, []string{"embedding", "3", "6"}},
		{func() { d.EmbeddingBackward(six, three, tokens, 2, 3) }, []string{"embedding backward", "3", "6"}},
		{func() { d.CrossEntropy(three, six, tokens, 0, 2, 3, 1) }, []string{"cross-entropy", "target 9", "3"}},
		{func() { d.CrossEntropy(three, six, tokens, 1, 2, 3, 1) }, []string{"cross-entropy", "2", "3"}},
		{func() { d.AdamW(three, three, six, three, kernels.AdamWStep{}) }, []string{"adamw", "6", "3"}},
	} {
		message := panicOf(c.call)
		for _, name := range c.names {
			if !strings.Contains(message, name) {
				t.Errorf("panic %q does not name %q", message, name)
			}
		}
	}
}

// panicOf returns what f panics with, or "" when it does not.
func panicOf(f func()) (message string) {
	defer func() {
		if r := recover(); r != nil {
			message = fmt.Sprint(r)
		}
	}()
	f()
	return ""
}
