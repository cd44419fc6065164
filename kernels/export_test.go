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
	if d.path.peak == nil {
		return 0
	}
	const turns = 1 << 12
	best := BestTime(3, func() { d.path.peak(turns) })
	return turns * float64(d.path.peakFlop) / best.Seconds() / 1e9
}

// Paths returns the names of the paths that this machine can run, the fastest first.
func Paths() []string {
	var names []string
	for _, p := range allPaths() {
		names = append(names, p.name)
	}
	return names
}

// NewCPUOn is NewCPU on a path that Paths named.
func NewCPUOn(threads int, name string) (*CPU, error) {
	for _, p := range allPaths() {
		if p.name == name {
			return newCPU(threads, p)
		}
	}
	panic("kernels: no path " + name)
}
