// Package cpu runs the operations of package kernels on the machine's cores.
//
// [Device] is the device. [Encode], [Check], [Decode] and [DecodeAdd] are a format's loops
// on the caller's goroutine. [Features], [Choices] and [Streams] say what the processor
// has, what of it is used, and how fast its arithmetic and its memory are.
//
// The assembly is written by the programs in _asm; the plain Go beside each operation
// defines its bits.
package cpu

import (
	"fmt"
	"runtime"

	"loco/kernels"
)

// Device is a kernels.Device that computes in float32 on the machine's cores: with AVX-512, AVX2
// and FMA, or NEON, where the processor has them, else in plain Go.
//
// The bits of every result are the same at any thread count, at any vector width and
// on every architecture: work is cut into tasks that own their outputs or a fixed slot
// of scratch memory, every sum has an order that does not depend on the width of
// vectors, what is fused is said by the operation and not by a compiler, and exp and
// log are this package's own.
//
// Its methods must not be called at the same time by several goroutines.
type Device struct {
	threads int
	path    *path
	half    *half // nil in float32
	pool    *pool // nil with one thread
	bytes   int64 // taken by Alloc, AllocTokens and NewWeight

	// One job of each kind, reused by every call so that none allocates.
	matmul      matmulJob
	elementwise elementwiseJob
	reduce      reduceJob
	norm        normJob
	rotary      ropeJob
	attention   attentionJob
	swiglu      swigluJob
	embedding   embeddingJob
	loss        lossJob
	adamw       adamwJob
	repacking   weightJob
	combining   axpbyJob
	hashing     hashJob
	coding      codecJob
	rounded     [2]roundedRows // LinearSwiGLU reads one and makes the other
}

var _ kernels.Device = (*Device)(nil)

// maxThreads is above what any machine has and keeps a mistyped number from
// starting a million goroutines.
const maxThreads = 1024

// New returns a device that computes with the given number of threads; 0 means as
// many as Go may run at once (runtime.GOMAXPROCS). It fails on a precision that this
// processor does not have.
func New(threads int, precision kernels.Precision) (*Device, error) {
	half, err := chooseHalf(precision, halves())
	if err != nil {
		return nil, err
	}
	return newDevice(threads, allPaths()[0], half)
}

func newDevice(threads int, p *path, half *half) (*Device, error) {
	if threads < 0 || threads > maxThreads {
		return nil, fmt.Errorf("kernels: cpu with %d threads: want 1 to %d, or 0 for as many as the machine has", threads, maxThreads)
	}
	if threads == 0 {
		threads = min(runtime.GOMAXPROCS(0), maxThreads)
	}
	d := &Device{threads: threads, path: p, half: half}
	if threads > 1 {
		d.pool = newPool(threads)
	}
	d.matmul.scratch = make([]matmulScratch, threads)
	d.reduce.lanes = make([][lanes]float64, threads)
	d.attention.scratch = make([]attentionScratch, threads)
	d.repacking.tmp = make([][]float32, threads)
	return d, nil
}

type cpuBuffer struct {
	v    []float32
	home *cpuMemory
	at   int // in home
}

func (b *cpuBuffer) Len() int { return len(b.v) }

func (b *cpuBuffer) Slice(lo, hi int) kernels.Buffer {
	return &cpuBuffer{b.v[lo:hi:hi], b.home, b.at + lo}
}

// HostValues returns the buffer's memory: see kernels.HostValues.
func (b *cpuBuffer) HostValues() []float32 { return b.v }

type cpuTokens struct{ v []int32 }

func (t *cpuTokens) Len() int { return len(t.v) }

// f32 returns the memory of a buffer of this device.
func f32(op string, b kernels.Buffer) []float32 {
	c, ok := b.(*cpuBuffer)
	if !ok {
		kernels.PanicForeign(op, b)
	}
	return c.v
}

func cpuIDs(op string, t kernels.Tokens) []int32 {
	c, ok := t.(*cpuTokens)
	if !ok {
		kernels.PanicForeign(op, t)
	}
	return c.v
}

// Name implements kernels.Device.
func (d *Device) Name() string {
	plural := "s"
	if d.threads == 1 {
		plural = ""
	}
	return fmt.Sprintf("cpu (%d thread%s, %s, %s)", d.threads, plural, d.path.name, d.Precision())
}

// Close implements kernels.Device: it ends the threads and waits for them.
func (d *Device) Close() error {
	if d.pool != nil {
		d.pool.close()
		d.pool = nil
	}
	return nil
}

// Allocated is the number of bytes that Alloc, AllocTokens and NewWeight have taken. It
// leaves out the device's own scratch memory.
func (d *Device) Allocated() int64 { return d.bytes }

// Alloc implements kernels.Device. Go has no way to learn that memory is missing before it
// is used, so only sizes that no machine has are refused.
func (d *Device) Alloc(n int) (kernels.Buffer, error) {
	if err := kernels.CheckAlloc("values", n); err != nil {
		return nil, err
	}
	d.bytes += 4 * int64(n)
	return &cpuBuffer{floats(n), &cpuMemory{}, 0}, nil
}

// AllocTokens implements kernels.Device.
func (d *Device) AllocTokens(n int) (kernels.Tokens, error) {
	if err := kernels.CheckAlloc("tokens", n); err != nil {
		return nil, err
	}
	d.bytes += 4 * int64(n)
	return &cpuTokens{make([]int32, n)}, nil
}

// Upload implements kernels.Device.
func (d *Device) Upload(dst kernels.Buffer, src []float32) {
	kernels.CheckSame("upload", "src", len(src), dst.Len())
	copy(d.written("upload", dst), src)
}

// Download implements kernels.Device.
func (d *Device) Download(dst []float32, src kernels.Buffer) {
	kernels.CheckSame("download", "dst", len(dst), src.Len())
	copy(dst, f32("download", src))
}

// UploadTokens implements kernels.Device.
func (d *Device) UploadTokens(dst kernels.Tokens, src []int32) {
	kernels.CheckSame("upload tokens", "src", len(src), dst.Len())
	copy(cpuIDs("upload tokens", dst), src)
}

// run runs the tasks of a job on all threads, or here when there is only one of
// either.
func (d *Device) run(j job, tasks int) {
	if d.pool == nil || tasks == 1 {
		for t := range tasks {
			j.do(0, t)
		}
		return
	}
	if tasks > 0 {
		d.pool.run(j, tasks)
	}
}

// grownFloats is grown for values, which may be many.
func grownFloats(s []float32, n int) []float32 {
	if cap(s) < n {
		return floats(n)
	}
	return s[:n]
}

// blocks is the number of tasks that n items make when each takes size of them.
func blocks(n, size int) int { return (n + size - 1) / size }

// grown returns s with at least n elements, keeping its memory when it has them.
func grown[E any](s []E, n int) []E {
	if cap(s) < n {
		return make([]E, n)
	}
	return s[:n]
}
