package bench

import (
	"runtime"

	"loco/kernels"
	"loco/kernels/cpu"
)

// Machine is what computes, why so, and its limits. Rates are medians.
type Machine struct {
	OS       string       `json:"os"`
	Arch     string       `json:"arch"`
	CPUs     int          `json:"cpus"` // that this process may use
	Threads  int          `json:"threads"`
	Go       string       `json:"go"`
	Path     string       `json:"path"`
	Features []string     `json:"features"` // of the processor, of those that matter
	Choices  []cpu.Choice `json:"choices"`  // paths, the fastest first
	// Precision is what matrices are multiplied in, Halves the ways to multiply bf16.
	Precision string       `json:"precision"`
	Halves    []cpu.Choice `json:"bf16_choices"`
	// Fused multiply-adds on float32 in GFLOP/s; nothing where the path is Go.
	FMAOne float64 `json:"fma_1_thread,omitempty"`
	FMAAll float64 `json:"fma_all_threads,omitempty"`
	// Multiplications in bf16, on all threads, where those are what products do.
	BF16All float64 `json:"bf16_all_threads,omitempty"`
	Memory  *Memory `json:"memory,omitempty"` // where a case is compared with it
}

// Memory is the rate of memory that fits no ordinary cache, on all threads, in GB/s.
type Memory struct {
	Bytes  int64   `json:"bytes"` // that the arrays take
	Read   float64 `json:"read"`
	Copy   float64 `json:"copy"`
	Update float64 `json:"read_modify_write"`
}

// memoryBytes is the size of the arrays of Machine.Memory.
const memoryBytes = 512 << 20

// headRounds is the number of samples of each of the machine's own limits.
const headRounds = 3

// inspect measures the limits of a machine: of memory only where a case needs them, and
// on no more memory than its cases.
func inspect(b *Bench, cases []Case) (Machine, error) {
	d := b.cpu
	m := Machine{
		OS: runtime.GOOS, Arch: runtime.GOARCH, CPUs: runtime.NumCPU(), Threads: d.Threads(), Go: runtime.Version(),
		Path: d.Path(), Features: cpu.Features(), Choices: cpu.Choices(),
		Precision: d.Precision(), Halves: cpu.PrecisionChoices(),
	}
	const turns = 1 << 20 // of the loop of multiply-adds, a few milliseconds
	one, err := b.limit(Limit{Prepare: func(*Bench) ([]func(), float64, error) {
		return []func(){func() { d.FusedMultiplyAdds(1, turns) }}, d.FusedMultiplyAdds(1, turns), nil
	}})
	if err != nil {
		return m, err
	}
	all, err := b.limit(fma())
	if err != nil {
		return m, err
	}
	if one.work > 0 {
		m.FMAOne, m.FMAAll = medians(one, all)
	}
	if m.Precision != string(kernels.FP32) {
		half, err := b.limit(multiplications())
		if err != nil {
			return m, err
		}
		m.BF16All, _ = medians(half, half)
	}
	bytes := int64(0)
	for _, c := range cases {
		if c.Limit.Unit == gigabytes {
			bytes = max(bytes, min(memoryBytes, c.Memory))
		}
	}
	if bytes == 0 {
		return m, nil
	}
	m.Memory = &Memory{Bytes: bytes}
	for _, l := range []struct {
		rate *float64
		mix  cpu.Mix
	}{
		{&m.Memory.Read, cpu.Mix{Read: 1}},
		{&m.Memory.Copy, cpu.Mix{Read: 1, Write: 1}},
		{&m.Memory.Update, cpu.Mix{Update: 1}},
	} {
		t, err := b.limit(memory(l.mix, bytes))
		if err != nil {
			return m, err
		}
		*l.rate, _ = medians(t, t)
	}
	return m, nil
}

// medians samples two limits in turns.
func medians(a, b timed) (float64, float64) {
	var rates [2][]float64
	for range headRounds {
		rates[0] = append(rates[0], a.rate())
		rates[1] = append(rates[1], b.rate())
	}
	return median(rates[0]), median(rates[1])
}
