//go:build cuda && linux && amd64

package cuda

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"loco/cmd/loco/bench"
	"loco/kernels"
	"loco/kernels/cuda/driver"
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
	line := fmt.Sprintf("%-66s %9.1f %-8s", r.name, r.rate, r.unit)
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

// atMost is the line of a difference and the most that it may be.
func atMost(name, unit string, x, most float64) string {
	line := fmt.Sprintf("%-66s %9.2g %-8s", name, x, unit)
	if !(x <= most) {
		return line + fmt.Sprintf("  ABOVE %g", most)
	}
	return line + fmt.Sprintf("  (asked: at most %g)", most)
}

// leftOut is the line of what this machine cannot do.
func leftOut(name string, why error) string {
	return fmt.Sprintf("%-66s   LEFT OUT: %s", name, strings.Join(strings.Fields(why.Error()), " "))
}

// table measures on one device, or on several together.
type table struct {
	t       *testing.T
	d       *Device
	others  []*Device // that rate waits for too
	torch   map[string]float64
	fastest float64 // product of all, in TFLOP/s
	whose   string
	copied  float64 // GB/s of device memory
	rows    int
	below   int
	left    int
}

// wait waits for everything that the devices were given.
func (b *table) wait() error {
	for _, d := range append([]*Device{b.d}, b.others...) {
		for _, s := range []*driver.Stream{d.compute, d.copies} {
			d.failed(s.Synchronize())
		}
		if d.err != nil {
			return d.err
		}
	}
	return nil
}

// rate is how much work a second a call does: the best of three turns of a fifth of a second.
func (b *table) rate(work float64, call func()) (best float64, err error) {
	call()
	call()
	if err := b.wait(); err != nil {
		return 0, err
	}
	count := 1
	for turn := 0; turn < 3; {
		began := time.Now()
		for range count {
			call()
		}
		if err := b.wait(); err != nil {
			return 0, err
		}
		took := time.Since(began)
		if took < 200*time.Millisecond && !*small {
			count *= max(2, int(250*time.Millisecond/max(took, time.Millisecond)/2))
			continue
		}
		best = max(best, work*float64(count)/took.Seconds())
		turn++
	}
	return best, nil
}

func (b *table) add(r row) {
	b.rows++
	if strings.Contains(r.String(), "BELOW") {
		b.below++
	}
	fmt.Println(r)
}

// leave says why a row is missing. Too little memory is the machine's fault, all else a failure.
func (b *table) leave(name string, err error) {
	b.left++
	fmt.Println(leftOut(name, err))
	if driver.IsLost(err) {
		b.t.Fatal(err) // nothing runs any more
	}
	if !driver.IsOutOfMemory(err) && !strings.Contains(err.Error(), "bytes are free") {
		b.t.Errorf("%s: %v", name, err)
	}
}

// measure adds a row with the rate of a call, in units of a billion a second or, for TFLOP/s, of a
// thousand billion. It returns 0 where the call fails.
func (b *table) measure(r row, work float64, call func()) float64 {
	scale := 1e9
	if r.unit == "TFLOP/s" {
		scale = 1e12
	}
	rate, err := b.rate(work, call)
	if err != nil {
		b.leave(r.name, err)
		return 0
	}
	r.rate = rate / scale
	b.add(r)
	return r.rate
}

// cases runs those of package bench that PyTorch does too, and compares the largest step with the
// fastest product, of any library.
func (b *table) cases() {
	least := asked()
	step := row{name: "largest training step", unit: "TFLOP/s", least: 0.55}
	for _, c := range bench.Cases(sizes()) {
		if least[c.Kernel] == 0 {
			continue
		}
		d := b.fresh() // memory is given back with the device
		rate, other := 0.0, b.torch[c.Name()]
		if call, err := c.Setup(d); err != nil {
			b.leave(c.Name(), err)
		} else {
			rate = b.measure(row{c.Name(), "TFLOP/s", 0, "PyTorch", other, least[c.Kernel]}, c.Work, call)
		}
		switch c.Kernel {
		case "linear forward", "linear dX", "matmul dW":
			b.product(rate, "loco's")
			b.product(other, "PyTorch's")
		case "training step":
			step.rate = rate // the last one is the largest model's
		}
	}
	if step.rate > 0 {
		step.reference, step.other = "the fastest product, "+b.whose, b.fastest
		b.add(step)
	}
}

func (b *table) product(rate float64, whose string) {
	if rate > b.fastest {
		b.fastest, b.whose = rate, whose
	}
}

// fresh is an empty device, which ends with the table.
func (b *table) fresh() *Device {
	b.close()
	blas := ""
	if !*gpu {
		blas = noBlas
	}
	var err error
	if b.d, err = open(0, kernels.BF16, blas); err != nil {
		b.t.Fatal(err)
	}
	return b.d
}

func (b *table) close() {
	for _, d := range append([]*Device{b.d}, b.others...) {
		if d == nil {
			continue
		}
		if err := d.Close(); err != nil {
			b.t.Fatal(err)
		}
	}
	b.d, b.others = nil, nil
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
	context, err := driver.Open(0) // that devices share: each would make one anew
	if err != nil {
		t.Fatal(err)
	}
	defer context.Close()
	b := &table{t: t, torch: readRates()}
	d := b.fresh()
	defer b.close()
	fmt.Println(d.Name())
	if err := d.WithoutBlas(); err != nil {
		fmt.Println(leftOut("cuBLAS", err))
	}
	b.cases()
	for _, section := range []struct {
		name string
		run  func() error
	}{{"what memory limits", b.memory}, {"codec on the device", b.codec}, {"outer step", b.outer}, {"sum between two GPUs", b.peers}} {
		if err := section.run(); err != nil {
			b.leave(section.name, err)
		}
	}
	fmt.Printf("%d rates, %d below what is asked, %d left out\n", b.rows, b.below, b.left)
}

// readRates are PyTorch's, as far as it came.
func readRates() (rates map[string]float64) {
	if *torchRates == "" {
		return nil
	}
	text, err := os.ReadFile(*torchRates)
	if err == nil {
		err = json.Unmarshal(text, &rates)
	}
	if err != nil {
		fmt.Println("PyTorch's rates are left out:", err)
	}
	return rates
}
