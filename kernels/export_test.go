package kernels

import "time"

// BestTime returns the shortest of the times that f takes in count calls. The shortest
// is what a machine does that nobody else uses at that moment.
func BestTime(count int, f func()) time.Duration {
	best := time.Duration(1<<63 - 1)
	for range count {
		start := time.Now()
		f()
		best = min(best, time.Since(start))
	}
	return best
}

// Peak returns the rate of d's fused multiply-adds on registers at this moment, in
// GFLOP/s of one thread; 0 in plain Go.
func (d *CPU) Peak() float64 {
	peak, flop := d.path.peak, d.path.peakFlop
	if d.half != nil {
		peak, flop = d.half.peak, d.half.peakFlop
	}
	if peak == nil {
		return 0
	}
	const turns = 1 << 12
	best := BestTime(3, func() { peak(turns) })
	return turns * float64(flop) / best.Seconds() / 1e9
}

// Paths returns the names of the paths that this machine can run, the fastest first.
func Paths() []string {
	var names []string
	for _, p := range allPaths() {
		names = append(names, p.name)
	}
	return names
}

// Halves returns the names of the ways to multiply bf16 values that this machine has.
func Halves() []string {
	var names []string
	for _, h := range halves() {
		names = append(names, h.name)
	}
	return names
}

// NewCPUHalf is NewCPU on the first path in bf16 by one of Halves.
func NewCPUHalf(threads int, name string) (*CPU, error) {
	for _, h := range halves() {
		if h.name == name {
			return newCPU(threads, allPaths()[0], h)
		}
	}
	panic("kernels: no way to multiply bf16 named " + name)
}

// NewCPUOn is NewCPU in float32 on a path that Paths named.
func NewCPUOn(threads int, name string) (*CPU, error) {
	for _, p := range allPaths() {
		if p.name == name {
			return newCPU(threads, p, nil)
		}
	}
	panic("kernels: no path " + name)
}
