package bench

import (
	"fmt"

	"loco/kernels"
	"loco/kernels/cpu"
)

// A Case is one operation at one shape.
type Case struct {
	Kernel string // "matmul forward"
	Shape  string // "2048x768x768"
	// Work of one call, in the limit's unit: floating-point operations, or bytes that
	// must cross between memory and processor when each operand does so once.
	Work   float64
	Tokens int // of one call, for training steps; else 0
	Memory int64
	Limit  Limit
	// Extra cases take much time or memory and run only where they are asked for.
	Extra bool
	// Setup makes operands on a device and returns the call that is measured.
	Setup func(dev kernels.Device) (call func(), err error)
}

// Name is the kernel and the shape.
func (c Case) Name() string { return c.Kernel + " " + c.Shape }

// A Limit is what operations of one kind cannot exceed.
type Limit struct {
	Name string // "FMA", "memory 1r 3u"
	Unit string // GFLOP/s or GB/s
	// Prepare returns calls that do nothing but what is limited, and how much of it each
	// does: floating-point operations or bytes. Of several the fastest is the limit. Work is 0 where this device has no such limit.
	Prepare func(b *Bench) (calls []func(), work float64, err error)
}

// Units of work, over a billion and a second.
const (
	gigaflops = "GFLOP/s"
	gigabytes = "GB/s"
)

// fma is the limit of fused multiply-adds on float32 registers, on all threads.
func fma() Limit { return arithmetic("FMA", (*cpu.Device).FusedMultiplyAdds) }

// multiplications is the limit of what MatMul multiplies with, on all threads: fused
// multiply-adds, or in bf16 products of pairs or tiles.
func multiplications() Limit { return arithmetic("multiply", (*cpu.Device).Multiplications) }

// arithmetic is the limit of what loop does, which returns its operations.
func arithmetic(name string, loop func(d *cpu.Device, tasks, turns int) float64) Limit {
	return Limit{name, gigaflops, func(b *Bench) ([]func(), float64, error) {
		// Tasks of about 20 µs, so many that the start of a thread that slept, which may
		// take as long as several of them, is no part of the limit.
		const tasks, turns = 256, 1 << 13
		all := tasks * b.cpu.Threads()
		return []func(){func() { loop(b.cpu, all, turns) }}, loop(b.cpu, all, turns), nil
	}}
}

// memory is the limit of reading and writing bytes of memory in a mix. What is only
// written goes through the caches or past them, whichever is faster at its size.
func memory(mix cpu.Mix, bytes int64) Limit {
	return Limit{"memory " + mixName(mix), gigabytes, func(b *Bench) ([]func(), float64, error) {
		s := b.streams
		if err := s.Cut(mix, bytes); err != nil {
			return nil, 0, fmt.Errorf("bench: limit of memory: %w", err)
		}
		calls := []func(){s.Run}
		if mix.Write > 0 {
			calls = []func(){func() { s.Past(false); s.Run() }, func() { s.Past(true); s.Run() }}
		}
		return calls, s.Bytes(), nil
	}}
}

// mixName is a mix in short: r read, u updated where they are, w written only.
func mixName(m cpu.Mix) string {
	name := ""
	for _, part := range []struct {
		arrays int
		letter string
	}{{m.Read, "r"}, {m.Update, "u"}, {m.Write, "w"}} {
		if part.arrays > 0 {
			name += fmt.Sprint(part.arrays, part.letter)
		}
	}
	return name
}
