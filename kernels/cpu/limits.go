package cpu

import (
	"fmt"
	"unsafe"

	"loco/kernels"
)

// This file is the work that a machine's limits are measured by: operations that do
// nothing but fused multiply-adds on registers, or nothing but read and write memory.
// They run on the same threads and are cut into tasks like every other operation.
// The caller brings the clock.

// FusedMultiplyAdds does nothing but fused multiply-adds on registers: tasks times
// turns of a loop, on all threads, or with one task on the caller's. It returns the
// number of floating-point operations, two for each multiply-add; 0 where the path is
// Go, whose compiler decides what such a loop becomes.
func (d *Device) FusedMultiplyAdds(tasks, turns int) float64 {
	if d.path.peak == nil || tasks < 1 || turns < 1 {
		return 0
	}
	d.run(&peakJob{d.path.peak, turns}, tasks)
	return float64(tasks) * float64(turns) * float64(d.path.peakFlop)
}

// Multiplications is FusedMultiplyAdds in the precision of MatMul: on pairs or tiles of
// bf16 where those are what it multiplies.
func (d *Device) Multiplications(tasks, turns int) float64 {
	if d.half == nil || tasks < 1 || turns < 1 {
		return d.FusedMultiplyAdds(tasks, turns)
	}
	d.run(&peakJob{d.half.peak, turns}, tasks)
	return float64(tasks) * float64(turns) * float64(d.half.peakFlop)
}

type peakJob struct {
	peak  func(turns int)
	turns int
}

func (j *peakJob) do(_, _ int) { j.peak(j.turns) }

// Mix is what an operation does with memory, as numbers of arrays of equal length:
// AdamW reads one, changes three where they are and writes none, {1, 3, 0}.
type Mix struct {
	Read   int `json:"read"`   // only read
	Update int `json:"update"` // read, and written back
	Write  int `json:"write"`  // only written
}

// Arrays is the number of arrays.
func (m Mix) Arrays() int { return m.Read + m.Update + m.Write }

// Moves is how often one value of each array makes a value cross: an update does twice.
func (m Mix) Moves() int { return m.Read + 2*m.Update + m.Write }

const (
	// streamChunk is the number of values after which a stream goes on with the next
	// array. Two small pages are the fastest at almost every mix; a fourth of it loses up
	// to a tenth, because processors fetch ahead within a page.
	streamChunk = 2048
	// streamTask is the number of values of each array in a task.
	streamTask = 16 * streamChunk
)

// Streams are arrays that are read and written as fast as a CPU's threads can: what
// operations that wait for memory are measured against. Their memory is kept from one
// Cut to the next, because a system takes long to give it.
type Streams struct {
	cpu    *Device
	memory []float32
	job    streamJob
}

// NewStreams returns streams without arrays; see Cut.
func (d *Device) NewStreams() *Streams { return &Streams{cpu: d} }

// Cut makes the arrays of a mix, all of one length, that together take about bytes
// bytes, but at least 8 KiB each. It fails where the mix has no array or the size is
// impossible.
func (s *Streams) Cut(mix Mix, bytes int64) error {
	arrays := mix.Arrays()
	if mix.Read < 0 || mix.Update < 0 || mix.Write < 0 || arrays == 0 || arrays > 64 {
		return fmt.Errorf("kernels: streams of %+v arrays: want 1 to 64 in all, and none negative", mix)
	}
	if bytes < 0 || bytes/4 > kernels.MaxAlloc {
		return fmt.Errorf("kernels: streams of %d bytes: want 0 to %d", bytes, int64(4*kernels.MaxAlloc))
	}
	n := max(1, int(bytes/4)/arrays/streamChunk) * streamChunk
	if len(s.memory) < n*arrays {
		s.memory = alignedFloats(n * arrays)
		for i := range s.memory {
			s.memory[i] = 1 // processors have short cuts for memory that is zero
		}
	}
	s.job = streamJob{streams: s.cpu.path.streams, mix: mix, length: n, sums: make([]float32, blocks(n, streamTask))}
	if s.job.streams == nil {
		s.job.streams = &plainStreams
	}
	for i := range arrays {
		s.job.arrays = append(s.job.arrays, s.memory[i*n:(i+1)*n:(i+1)*n])
	}
	return nil
}

// alignedFloats is floats at a boundary of 64 bytes, which writing past the caches needs.
func alignedFloats(n int) []float32 {
	const line = 16
	all := floats(n + line)
	skip := 0
	if past := int(uintptr(unsafe.Pointer(&all[0])) / 4 % line); past > 0 {
		skip = line - past
	}
	return all[skip : skip+n : skip+n]
}

// Bytes is what one Run moves. A value that is only written counts once, though a
// cache may have to fetch it first.
func (s *Streams) Bytes() float64 { return 4 * float64(s.job.length) * float64(s.job.mix.Moves()) }

// Past makes Run write past the caches what it only writes: faster where it does not
// fit them, slower where it does. In Go there is no such write, and no difference. Cut
// ends it.
func (s *Streams) Past(past bool) { s.job.past = past }

// Run goes over the arrays once.
func (s *Streams) Run() { s.cpu.run(&s.job, len(s.job.sums)) }

// streams are the loops of one path. They take a multiple of 128 values.
type streams struct {
	read      func(x []float32) float32 // a sum, so that nothing can be left out
	update    func(x []float32)         // x += 1
	write     func(x []float32)         // x = 1
	writePast func(x []float32)         // the same, past the caches; x at a boundary of 64 bytes
}

var plainStreams = streams{plainStreamRead, plainStreamUpdate, plainStreamWrite, plainStreamWrite}

type streamJob struct {
	*streams
	mix    Mix
	arrays [][]float32 // read, then updated, then written
	length int         // of each array
	past   bool
	sums   []float32 // of each task
}

func (j *streamJob) do(_, task int) {
	lo := task * streamTask
	hi := min(lo+streamTask, j.length)
	write := j.write
	if j.past {
		write = j.writePast
	}
	updated := j.arrays[j.mix.Read : j.mix.Read+j.mix.Update]
	written := j.arrays[j.mix.Read+j.mix.Update:]
	sum := float32(0)
	for ; lo < hi; lo += streamChunk {
		for _, x := range j.arrays[:j.mix.Read] {
			sum += j.read(x[lo : lo+streamChunk])
		}
		for _, x := range updated {
			j.update(x[lo : lo+streamChunk])
		}
		for _, x := range written {
			write(x[lo : lo+streamChunk])
		}
	}
	j.sums[task] = sum
}

func plainStreamRead(x []float32) float32 {
	var sums [8]float32
	for len(x) >= len(sums) {
		for i, v := range x[:len(sums)] {
			sums[i] += v
		}
		x = x[len(sums):]
	}
	return sums[0] + sums[1] + sums[2] + sums[3] + sums[4] + sums[5] + sums[6] + sums[7]
}

func plainStreamUpdate(x []float32) {
	for i := range x {
		x[i]++
	}
}

func plainStreamWrite(x []float32) {
	for i := range x {
		x[i] = 1
	}
}
