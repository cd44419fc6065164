package kernels_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"loco/kernels"
)

// values is a Buffer of a length and without memory.
type values int

func (v values) Len() int                        { return int(v) }
func (v values) Slice(lo, hi int) kernels.Buffer { return values(hi - lo) }

// linear is a Weight of a shape and without memory.
type linear [2]int

func (w linear) Shape() (out, in int) { return w[0], w[1] }

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

// shapeChecks are the checks with operands that fit exactly. call takes the operands'
// lengths and, in the order of sizes, the shape.
var shapeChecks = []struct {
	op       string
	operands []string
	lengths  []int
	equal    bool // a longer operand does not fit either; of the others the first is the destination
	sizes    []string
	shape    []int
	call     func(b []kernels.Buffer, s []int)
}{
	{"matmul", []string{"c", "a", "b"}, []int{6, 10, 15}, false, []string{"m", "n", "k"}, []int{2, 3, 5},
		func(b []kernels.Buffer, s []int) { kernels.CheckMatMul(b[0], b[1], b[2], s[0], s[1], s[2]) }},
	{"rmsnorm", []string{"out", "rstd", "x", "weight"}, []int{15, 3, 15, 5}, false, []string{"rows", "width"}, []int{3, 5},
		func(b []kernels.Buffer, s []int) { kernels.CheckRMSNorm(b[0], b[1], b[2], b[3], s[0], s[1]) }},
	{"rmsnorm backward", []string{"dx", "dweight", "dout", "x", "weight", "rstd"}, []int{15, 5, 15, 15, 5, 3}, false, []string{"rows", "width"}, []int{3, 5},
		func(b []kernels.Buffer, s []int) {
			kernels.CheckRMSNormBackward(b[0], b[1], b[2], b[3], b[4], b[5], s[0], s[1])
		}},
	{"rope", []string{"qkv", "cos", "sin"}, []int{2 * 3 * 8 * 6, 9, 9}, false, []string{"batch", "seq"}, []int{2, 3},
		func(b []kernels.Buffer, s []int) { kernels.CheckRoPE(b[0], b[1], b[2], heads(s[0], s[1])) }},
	{"attention", []string{"out", "lse", "qkv"}, []int{2 * 3 * 4 * 6, 2 * 3 * 4, 2 * 3 * 8 * 6}, false, []string{"batch", "seq"}, []int{2, 3},
		func(b []kernels.Buffer, s []int) { kernels.CheckAttention(b[0], b[1], b[2], heads(s[0], s[1])) }},
	{"attention backward", []string{"dqkv", "delta", "dout", "out", "lse", "qkv"}, []int{288, 24, 144, 144, 24, 288}, false, []string{"batch", "seq"}, []int{2, 3},
		func(b []kernels.Buffer, s []int) {
			kernels.CheckAttentionBackward(b[0], b[1], b[2], b[3], b[4], b[5], heads(s[0], s[1]))
		}},
	{"swiglu", []string{"out", "gateUp"}, []int{15, 30}, false, []string{"rows", "width"}, []int{3, 5},
		func(b []kernels.Buffer, s []int) { kernels.CheckSwiGLU(b[0], b[1], s[0], s[1]) }},
	{"swiglu backward", []string{"dgateUp", "dout", "gateUp"}, []int{30, 15, 30}, false, []string{"rows", "width"}, []int{3, 5},
		func(b []kernels.Buffer, s []int) { kernels.CheckSwiGLUBackward(b[0], b[1], b[2], s[0], s[1]) }},
	{"embedding", []string{"rows", "table"}, []int{10, 35}, false, []string{"vocab", "width"}, []int{7, 5},
		func(b []kernels.Buffer, s []int) {
			kernels.CheckEmbedding("embedding", b[0], b[1], []int32{0, int32(s[0] - 1)}, s[0], s[1])
		}},
	{"cross-entropy", []string{"losses", "logits"}, []int{4, 21}, false, []string{"first", "rows", "vocab"}, []int{1, 3, 7},
		func(b []kernels.Buffer, s []int) {
			kernels.CheckCrossEntropy(b[0], b[1], []int32{99, -1, 6, 0}, s[0], s[1], s[2])
		}},
	{"adamw", []string{"p", "g", "m", "v"}, []int{5, 5, 5, 5}, true, nil, nil,
		func(b []kernels.Buffer, _ []int) { kernels.CheckAdamW(b[0], b[1], b[2], b[3]) }},
	{"axpby", []string{"dst", "x", "y"}, []int{5, 5, 5}, true, nil, nil,
		func(b []kernels.Buffer, _ []int) { kernels.CheckAxpby(b[0], b[1], b[2], nil) }},
	{"axpby", []string{"dst", "x", "y", "z"}, []int{5, 5, 5, 5}, true, nil, nil,
		func(b []kernels.Buffer, _ []int) { kernels.CheckAxpby(b[0], b[1], b[2], b[3]) }},
	{"linear", []string{"y", "x", "residual"}, []int{12, 9, 12}, false, []string{"rows"}, []int{3},
		func(b []kernels.Buffer, s []int) { kernels.CheckLinear("linear", b[0], b[1], linear{4, 3}, b[2], s[0]) }},
	{"linear", []string{"y", "x"}, []int{12, 9}, false, []string{"rows"}, []int{3},
		func(b []kernels.Buffer, s []int) { kernels.CheckLinear("linear", b[0], b[1], linear{4, 3}, nil, s[0]) }},
	{"linear swiglu", []string{"out", "y", "x"}, []int{6, 12, 9}, false, []string{"rows"}, []int{3},
		func(b []kernels.Buffer, s []int) { kernels.CheckLinearSwiGLU(b[0], b[1], b[2], linear{4, 3}, s[0]) }},
	{"linear backward", []string{"dx", "dy"}, []int{9, 12}, false, []string{"rows"}, []int{3},
		func(b []kernels.Buffer, s []int) { kernels.CheckLinearBackward(b[0], b[1], linear{4, 3}, s[0]) }},
	{"update weight", []string{"p", "g", "m", "v"}, []int{12, 12, 12, 12}, true, nil, nil,
		func(b []kernels.Buffer, _ []int) { kernels.CheckUpdateWeight(b[0].Len(), b[1], b[2], b[3]) }},
	{"weight", []string{"params"}, []int{12}, false, nil, nil,
		func(b []kernels.Buffer, _ []int) {
			if err := kernels.CheckWeight(b[0], 4, 3); err != nil {
				panic(err)
			}
		}},
}

// heads are 4 heads of 6 values that share 2 key-value heads.
func heads(batch, seq int) kernels.AttentionShape {
	return kernels.AttentionShape{Batch: batch, Seq: seq, Heads: 4, KVHeads: 2, HeadDim: 6}
}

// Each check lets pass what fits, and refuses each operand that is short of one value, by
// the names of the operation and the operand and both numbers.
func TestShapesAreChecked(t *testing.T) {
	for _, c := range shapeChecks {
		fit := func(at, change int) []kernels.Buffer {
			var b []kernels.Buffer
			for i, n := range c.lengths {
				if i == at {
					n += change
				}
				b = append(b, values(n))
			}
			return b
		}
		if message := panicOf(func() { c.call(fit(0, 0), c.shape) }); message != "" {
			t.Errorf("%s: operands that fit are refused: %s", c.op, message)
		}
		for i, operand := range c.operands {
			changes := []int{-1, 1}
			if !c.equal {
				if message := panicOf(func() { c.call(fit(i, 1), c.shape) }); message != "" {
					t.Errorf("%s: a larger %s is refused: %s", c.op, operand, message)
				}
				changes = changes[:1]
			} else if i == 0 {
				continue // the others do not fit it
			}
			for _, change := range changes {
				message := panicOf(func() { c.call(fit(i, change), c.shape) })
				want := fmt.Sprintf("kernels: %s: %s has %d values, the shape needs %d", c.op, operand, c.lengths[i]+change, c.lengths[i])
				if message != want {
					t.Errorf("panic %q, want %q", message, want)
				}
			}
		}
		for i, size := range c.sizes {
			shape := append([]int(nil), c.shape...)
			shape[i] = -1
			message := panicOf(func() { c.call(fit(0, 0), shape) })
			if !strings.Contains(message, c.op) || !strings.Contains(message, size+" is -1") {
				t.Errorf("%s: with a negative %s: panic %q", c.op, size, message)
			}
			if size == "vocab" || size == "first" {
				continue // then tokens are outside the vocabulary
			}
			shape[i] = 0 // nothing to do is no mistake
			if message := panicOf(func() { c.call(fit(0, 0), shape) }); message != "" {
				t.Errorf("%s: with %s of 0: panic %q", c.op, size, message)
			}
		}
	}
}

func TestShapesThatCannotBe(t *testing.T) {
	big := values(1 << 20)
	shape := func(heads, kv, dim int) kernels.AttentionShape {
		return kernels.AttentionShape{Batch: 1, Seq: 1, Heads: heads, KVHeads: kv, HeadDim: dim}
	}
	for _, c := range []struct {
		want string
		call func()
	}{
		{"attention: 3 heads are not a multiple of 2", func() { kernels.CheckAttention(big, big, big, shape(3, 2, 4)) }},
		{"attention: 0 heads", func() { kernels.CheckAttention(big, big, big, shape(0, 1, 4)) }},
		{"attention: 2 heads are not a multiple of 0", func() { kernels.CheckAttention(big, big, big, shape(2, 0, 4)) }},
		{"attention backward: head dimension is 0", func() { kernels.CheckAttentionBackward(big, big, big, big, big, big, shape(1, 1, 0)) }},
		{"rope: head dimension is 3", func() { kernels.CheckRoPE(big, big, big, shape(1, 1, 3)) }},
		{"linear swiglu: the weight has 5 outputs", func() { kernels.CheckLinearSwiGLU(big, big, big, linear{5, 1}, 1) }},
		{"token 7 at position 1", func() { kernels.CheckEmbedding("embedding", big, big, []int32{0, 7}, 7, 1) }},
		{"token -1 at position 0", func() { kernels.CheckEmbedding("embedding", big, big, []int32{-1}, 7, 1) }},
		{"target 7 at position 2", func() { kernels.CheckCrossEntropy(big, big, []int32{9, 0, 7}, 1, 2, 7) }},
		{"targets has 2 values, the shape needs 3", func() { kernels.CheckCrossEntropy(big, big, []int32{0, 0}, 1, 2, 7) }},
		{"scale: operand of type kernels_test.values belongs to another device", func() { kernels.PanicForeign("scale", big) }},
	} {
		if message := panicOf(c.call); !strings.Contains(message, c.want) {
			t.Errorf("panic %q, want one with %q", message, c.want)
		}
	}
	for _, w := range [][2]int{{0, 3}, {3, 0}, {-1, 3}} {
		if err := kernels.CheckWeight(big, w[0], w[1]); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%d outputs and %d inputs", w[0], w[1])) {
			t.Errorf("a weight of %v: error %v", w, err)
		}
	}
	if err := kernels.CheckWeight(values(1), 1, 1); err != nil {
		t.Error(err)
	}
}

func TestAllocationsAreBounded(t *testing.T) {
	for _, n := range []int{0, 1, kernels.MaxAlloc} {
		if err := kernels.CheckAlloc("values", n); err != nil {
			t.Error(err)
		}
	}
	for _, n := range []int{-1, kernels.MaxAlloc + 1, math.MaxInt} {
		if err := kernels.CheckAlloc("tokens", n); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("alloc of %d tokens", n)) {
			t.Errorf("%d tokens: error %v", n, err)
		}
	}
	if math.MaxInt > math.MaxInt32 && int64(kernels.MaxAlloc) != 1<<40 {
		t.Errorf("the limit is %d values, want 2⁴⁰", int64(kernels.MaxAlloc))
	}
}

// A head's rows and columns follow from the layout: all query heads, all key heads, all
// value heads in a row of qkv.
func TestHeadsLieInTheirRows(t *testing.T) {
	s := kernels.AttentionShape{Batch: 2, Seq: 5, Heads: 6, KVHeads: 3, HeadDim: 4}
	if s.Rows() != 10 || s.QKVWidth() != 48 || s.OutWidth() != 24 {
		t.Errorf("%d rows of %d and %d values, want 10 of 48 and 24", s.Rows(), s.QKVWidth(), s.OutWidth())
	}
	h := s.Head(1, 5) // reads key-value head 2
	row := 1*5 + 3
	for _, c := range []struct {
		what      string
		got, want int
	}{
		{"q", h.At(3, h.Q), row*48 + 5*4}, {"k", h.At(3, h.K), row*48 + (6+2)*4}, {"v", h.At(3, h.V), row*48 + (6+3+2)*4},
		{"out", h.OutAt(3), row*24 + 5*4}, {"lse", h.Statistics + 3, (1*6+5)*5 + 3},
		{"k of head 1", s.Head(0, 1).At(0, s.Head(0, 1).K), 6 * 4}, {"k of head 2", s.Head(0, 2).At(0, s.Head(0, 2).K), 7 * 4},
	} {
		if c.got != c.want {
			t.Errorf("%s is at %d, want %d", c.what, c.got, c.want)
		}
	}
}
