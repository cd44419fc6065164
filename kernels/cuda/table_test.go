//go:build cuda && linux && amd64

package cuda

import (
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"loco/bench"
	"loco/kernels"
	"loco/trainer/model"
)

var (
	listCases  = flag.String("list-cases", "", "write the cases that PyTorch is to be timed at to this file, and measure nothing")
	torchRates = flag.String("torch", "", "file with PyTorch's rates, by the names of the table's rows")
	small      = flag.Bool("small", false, "run the table and the parity on small shapes, which the emulator can do")
)

// sizes are the shapes of the table: the products of 150M and 1B Llamas on 16 k tokens,
// attention of 2048, and both models' steps.
func sizes() bench.Sizes {
	if *small {
		return bench.Sizes{
			Linear:    []bench.Linear{{Rows: 64, Out: 64, In: 64}},
			Attention: []kernels.AttentionShape{{Batch: 1, Seq: 64, Heads: 2, KVHeads: 1, HeadDim: 64}},
			Rows:      64, Width: 64, FFN: 64, Vocab: 64, LossRows: 64, Parameters: 4096,
			Steps: []bench.Step{{Config: tiny(), Batch: 2}},
		}
	}
	llama := func(layers, width, heads, kvHeads, ffn, context int) model.Config {
		c := model.Default()
		c.Vocab, c.Layers, c.Width, c.Heads, c.KVHeads, c.FFN, c.Context = 32000, layers, width, heads, kvHeads, ffn, context
		return c
	}
	return bench.Sizes{
		Linear: []bench.Linear{
			{Rows: 16384, Out: 768, In: 768}, {Rows: 16384, Out: 4096, In: 768}, {Rows: 16384, Out: 2048, In: 2048},
			{Rows: 16384, Out: 11264, In: 2048}, {Rows: 16384, Out: 2048, In: 5632},
		},
		Attention: []kernels.AttentionShape{
			{Batch: 8, Seq: 2048, Heads: 32, KVHeads: 8, HeadDim: 64}, {Batch: 8, Seq: 2048, Heads: 16, KVHeads: 8, HeadDim: 128},
		},
		Rows: 16384, Width: 2048, FFN: 5632, Vocab: 32000, LossRows: 1024, Parameters: 1 << 28,
		Steps: []bench.Step{
			{Config: llama(16, 768, 12, 12, 2048, 1024), Batch: 16}, {Config: llama(22, 2048, 32, 8, 5632, 2048), Batch: 4},
		},
	}
}

// asked is the least share of PyTorch's rate that is asked for, by kernel.
func asked() map[string]float64 {
	return map[string]float64{
		"linear forward": 0.97, "linear dX": 0.97, "matmul dW": 0.97,
		"attention forward": 0.8, "attention backward": 0.8, "training step": 1,
	}
}

// torchCase is what PyTorch is told of a case.
type torchCase struct {
	Name, Kernel string
	Work         float64                 // floating-point operations of a call
	Linear       *bench.Linear           `json:",omitempty"`
	Attention    *kernels.AttentionShape `json:",omitempty"`
	Step         *bench.Step             `json:",omitempty"`
}

// torchCases lists the cases that PyTorch does too.
func torchCases() (list []torchCase) {
	all := sizes()
	add := func(one bench.Sizes, with torchCase) {
		one.LossRows = 1
		for _, c := range bench.Cases(one) {
			if asked()[c.Kernel] > 0 {
				with.Name, with.Kernel, with.Work = c.Name(), c.Kernel, c.Work
				list = append(list, with)
			}
		}
	}
	for _, l := range all.Linear {
		add(bench.Sizes{Linear: []bench.Linear{l}}, torchCase{Linear: &l})
	}
	for _, a := range all.Attention {
		add(bench.Sizes{Attention: []kernels.AttentionShape{a}}, torchCase{Attention: &a})
	}
	for _, s := range all.Steps {
		add(bench.Sizes{Steps: []bench.Step{s}}, torchCase{Step: &s})
	}
	return list
}

// row is a line of the table: a rate, what it is compared with, and the least share of that
// which is asked for; 0 asks for nothing.
type row struct {
	name, unit string
	rate       float64
	reference  string  // "" for a row that others are compared with
	other      float64 // 0 where it is not known
	least      float64
}

func (r row) String() string {
	line := fmt.Sprintf("%-62s %9.1f %-8s", r.name, r.rate, r.unit)
	if r.reference == "" {
		return line
	}
	if r.other == 0 {
		return line + "  without " + r.reference
	}
	share := r.rate / r.other
	line += fmt.Sprintf("  %5.2f of %s, %.1f", share, r.reference, r.other)
	switch {
	case r.least == 0:
		return line
	case share < r.least:
		return line + fmt.Sprintf("  BELOW %.2f", r.least)
	}
	return line + fmt.Sprintf("  (asked: %.2f)", r.least)
}

// table measures on one device.
type table struct {
	t     *testing.T
	d     *Device
	torch map[string]float64
	rows  []row
}

// rate is how much work a second a call does: the best of three turns of a fifth of a second.
func (b *table) rate(work float64, call func()) float64 {
	wait := func() {
		if err := b.d.Stream().Synchronize(); err != nil || b.d.Err() != nil {
			b.t.Fatal(err, b.d.Err())
		}
	}
	call()
	call()
	wait()
	count, best := 1, 0.0
	for turn := 0; turn < 3; {
		began := time.Now()
		for range count {
			call()
		}
		wait()
		took := time.Since(began)
		if took < 200*time.Millisecond && !*small {
			count *= max(2, int(250*time.Millisecond/max(took, time.Millisecond)/2))
			continue
		}
		best = max(best, work*float64(count)/took.Seconds())
		turn++
	}
	return best
}

func (b *table) add(r row) {
	b.rows = append(b.rows, r)
	fmt.Println(r)
}

// cases runs those of package bench that PyTorch does too.
func (b *table) cases() (matmul, step float64) {
	least := asked()
	for _, c := range bench.Cases(sizes()) {
		if least[c.Kernel] == 0 {
			continue
		}
		d := b.fresh() // memory is given back with the device
		call, err := c.Setup(d)
		if err != nil {
			b.add(row{name: c.Name() + ": " + err.Error(), unit: "TFLOP/s", reference: "PyTorch"})
			continue
		}
		rate := b.rate(c.Work, call) / 1e12
		b.add(row{c.Name(), "TFLOP/s", rate, "PyTorch", b.torch[c.Name()], least[c.Kernel]})
		switch c.Kernel {
		case "linear forward":
			matmul = max(matmul, rate)
		case "training step":
			step = rate // the last one is the largest model's
		}
	}
	return matmul, step
}

// fresh is an empty device, which ends with the table.
func (b *table) fresh() *Device {
	if b.d != nil {
		if err := b.d.Close(); err != nil {
			b.t.Fatal(err)
		}
	}
	var err error
	blas := ""
	if !*gpu {
		blas = noBlas
	}
	if b.d, err = open(0, kernels.BF16, blas); err != nil {
		b.t.Fatal(err)
	}
	return b.d
}

func (b *table) values(n int) kernels.Buffer {
	v, err := b.d.Alloc(n)
	if err != nil {
		b.t.Fatal(err)
	}
	x := make([]float32, min(n, 1<<20))
	for i := range x {
		x[i] = float32(i%977)/977 - 0.5
	}
	for lo := 0; lo < n; lo += len(x) {
		b.d.Upload(v.Slice(lo, min(lo+len(x), n)), x[:min(len(x), n-lo)])
	}
	return v
}

// memory runs what only moves bytes, beside a copy, whose rate it returns in GB/s.
func (b *table) memory() (limit float64) {
	s := sizes()
	d, n := b.fresh(), s.Parameters
	x, y := b.values(n), b.values(n)
	limit = b.rate(8*float64(n), func() { d.Copy(y, x) }) / 1e9
	b.add(row{name: fmt.Sprintf("copy of %d float32", n), unit: "GB/s", rate: limit})
	m, v := b.values(n), b.values(n)
	d.Zero(m)
	d.Zero(v)
	step := kernels.AdamWStep{LR: 1e-4, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, WeightDecay: 0.1, Correction1: 0.1, Correction2: 0.05, GradScale: 1}
	adamw := b.rate(28*float64(n), func() { d.AdamW(y, x, m, v, step) }) / 1e9
	b.add(row{fmt.Sprintf("adamw of %d float32", n), "GB/s", adamw, "the copy", limit, 0.85})
	norm := b.rate(4*float64(n), func() { d.Scale(x, 1) })
	b.add(row{fmt.Sprintf("scale of %d float32", n), "GB/s", 2 * norm / 1e9, "the copy", limit, 0.85})
	width, rows := s.Width, s.Rows
	in, out, weight, rstd := b.values(rows*width), b.values(rows*width), b.values(width), b.values(rows)
	rate := b.rate(6*float64(rows*width), func() { d.RMSNorm(out, rstd, in, weight, rows, width, 1e-5) }) / 1e9
	b.add(row{fmt.Sprintf("rmsnorm of %dx%d, float32 to bf16", rows, width), "GB/s", rate, "the copy", limit, 0.85})
	return limit
}

// outer runs DiLoCo's outer step with int8, beside the rate at which bytes cross PCIe, and the hashes
// of φ and momentum that a round ends with, beside a copy's rate in GB/s: alone, and in the step.
func (b *table) outer(copied float64) {
	n := sizes().Parameters
	d := b.fresh()
	slow, momentum, fast, delta := b.values(n), b.values(n), b.values(n), b.values(n)
	f := kernels.FormatInt8
	wire, hashes := make([]byte, f.EncodedLen(n)), make([]byte, 2*kernels.HashLen(n))
	host := make([]float32, n/4)
	one := delta.Slice(0, n/4)
	down := b.rate(float64(n), func() { d.Download(host, one) }) / 1e9
	b.add(row{name: "from the device to the host", unit: "GB/s", rate: down})
	up := b.rate(float64(n), func() { d.Upload(one, host) }) / 1e9
	b.add(row{name: "from the host to the device", unit: "GB/s", rate: up})
	step := func() {
		d.Difference(delta, slow, fast)
		if k := d.Encode(wire, f, delta); k != n {
			b.t.Fatalf("encoded %d of %d values: %v", k, n, d.Err())
		}
		d.Decode(delta, f, wire)
		d.Nesterov(slow, momentum, delta, 0.7, 0.9)
	}
	hash := func() {
		half := len(hashes) / 2
		d.Hash(hashes[:half], slow)
		d.Hash(hashes[half:], momentum)
	}
	bus := 2 / (1/down + 1/up)
	rate := b.rate(2*float64(len(wire)), step) / 1e9
	b.add(row{fmt.Sprintf("outer step of %d float32: Δ, int8, back, Nesterov", n), "GB/s", rate, "the bus", bus, 0.8})
	rate = b.rate(8*float64(n), hash) / 1e9
	b.add(row{fmt.Sprintf("hashes of φ and momentum, 2 × %d float32", n), "GB/s", rate, "the copy", copied, 0})
	rate = b.rate(float64(2*len(wire)+len(hashes)), func() { step(); hash() }) / 1e9
	b.add(row{fmt.Sprintf("outer step of %d float32 with the hashes", n), "GB/s", rate, "the bus", bus, 0.8})
}

// TestGPUTable prints the rates that the project asks for. It runs where it is named.
func TestGPUTable(t *testing.T) {
	if *listCases != "" {
		text, err := json.Marshal(torchCases())
		if err == nil {
			err = os.WriteFile(*listCases, text, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	if !*gpu && !*small {
		t.Skip("rates are measured with -gpu")
	}
	if noDevice != "" {
		t.Skip(noDevice)
	}
	b := &table{t: t}
	if *torchRates != "" {
		text, err := os.ReadFile(*torchRates)
		if err == nil {
			err = json.Unmarshal(text, &b.torch)
		}
		if err != nil {
			fmt.Println("PyTorch's rates are left out:", err)
		}
	}
	began := time.Now()
	b.fresh()
	b.d.Zero(b.values(1))
	if err := b.d.Stream().Synchronize(); err != nil {
		t.Fatal(err)
	}
	fmt.Printf("%s, %v\nopened, with the PTX compiled or found in the driver's cache, in %.2f s\n\n", b.d.Name(), b.d.Driver().Info(), time.Since(began).Seconds())
	matmul, step := b.cases()
	b.add(row{"largest training step", "TFLOP/s", step, "the fastest product", matmul, 0.55})
	b.outer(b.memory())
	below := 0
	for _, r := range b.rows {
		if r.rate == 0 || math.IsNaN(r.rate) {
			t.Errorf("%s: no rate", r.name)
		}
		if strings.Contains(r.String(), "BELOW") {
			below++
		}
	}
	fmt.Printf("\n%d rows, %d below what is asked\n", len(b.rows), below)
	if err := b.d.Close(); err != nil {
		t.Error(err)
	}
}

// TestParityOver50Steps trains beside the CPU for longer than the suite does.
func TestParityOver50Steps(t *testing.T) {
	if !*gpu && !*small {
		t.Skip("runs with -gpu: the emulator takes a minute")
	}
	cpu, err := kernels.NewCPU(0, kernels.FP32)
	if err != nil {
		t.Fatal(err)
	}
	defer cpu.Close()
	want := train(t, cpu, tiny(), 2, 1, 50)
	for _, c := range []struct {
		precision kernels.Precision
		tolerance float64
	}{{kernels.FP32, lossToleranceFP32}, {kernels.BF16, lossTolerance}} {
		d := device(t, c.precision)
		worst := 0.0
		for i, loss := range train(t, d, tiny(), 2, 1, 50) {
			worst = max(worst, math.Abs(loss-want[i]))
			if !(math.Abs(loss-want[i]) <= c.tolerance) {
				t.Errorf("%s, step %d: loss %.6f, the CPU's is %.6f", c.precision, i+1, loss, want[i])
			}
		}
		fmt.Printf("50 steps in %s: at most %.2g nats from the CPU in float32, whose loss falls from %.2f to %.2f\n", c.precision, worst, want[0], want[49])
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}
