//go:build cuda && linux && amd64

package cuda

import (
	"errors"
	"fmt"
	"math"

	"loco/kernels"
	"loco/kernels/cuda/driver"
	"loco/kernels/cuda/ptx"
)

// argsMax is the most arguments that a kernel here has.
const argsMax = 20

// Device is a kernels.Device, and a kernels.Exchanger, on one GPU. Its methods must not be
// called at the same time by several goroutines.
type Device struct {
	driver      *driver.Device
	precision   kernels.Precision
	activations form // what feeds products alone is written in
	module      *driver.Module
	functions   map[string]*driver.Function
	compute     *driver.Stream
	copies      *driver.Stream // beside it, for what crosses PCIe
	blas        *driver.Blas   // nil where there is no cuBLAS
	withoutBlas error          // why, where it was looked for
	reached     *driver.Event  // by one stream, for the other

	slabs     []slab
	slabBytes int64 // what the arena asks the driver for at once, at least
	reserved  int64 // bytes of Alloc, AllocTokens and NewWeight
	limit     int64 // of reserved
	slots     []slot
	turn      int    // of the slots, for what goes in
	pinned    []byte // what Sum reads

	parts, sums, columns, order, encoded, bad room
	operands                                  [2]room
	keys                                      []uint64 // of embedding_backward
	args                                      [argsMax]uint64
	err                                       error // the first
}

var _ kernels.Device = (*Device)(nil)
var _ kernels.Exchanger = (*Device)(nil)

// noBlas, for a path of cuBLAS, does without.
const noBlas = "none"

// Open prepares GPU number index to multiply in the given precision: BF16, which is also what
// Auto means, or FP32. It multiplies with cuBLAS where there is one.
func Open(index int, precision kernels.Precision) (*Device, error) {
	return open(index, precision, "")
}

// open takes cuBLAS from a path; "" looks for it and does without where there is none.
func open(index int, precision kernels.Precision, blas string) (*Device, error) {
	switch precision {
	case kernels.Auto:
		precision = kernels.BF16
	case kernels.BF16, kernels.FP32:
	default:
		return nil, fmt.Errorf("cuda: precision %q: unknown, choose one of %s, %s, %s", precision, kernels.Auto, kernels.FP32, kernels.BF16)
	}
	gpu, err := driver.Open(index)
	if err != nil {
		return nil, err
	}
	d := &Device{driver: gpu, precision: precision, slabBytes: slabBytes}
	if precision == kernels.BF16 {
		d.activations = halves
	}
	if err := d.prepare(blas); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func (d *Device) prepare(blas string) error {
	var err error
	if d.compute, err = d.driver.NewStream(); err != nil {
		return err
	}
	if d.copies, err = d.driver.NewStream(); err != nil {
		return err
	}
	if d.reached, err = d.driver.NewEvent(false); err != nil {
		return err
	}
	if d.module, err = d.driver.Module(ptx.SM80); err != nil {
		return err
	}
	d.functions = make(map[string]*driver.Function)
	for _, name := range ptx.Kernels(ptx.SM80) {
		if d.functions[name], err = d.module.Function(name); err != nil {
			return err
		}
	}
	for name, bytes := range sharedMax {
		if err := d.functions[name].SetDynamicShared(min(bytes, d.driver.SharedMax())); err != nil {
			return err
		}
	}
	if d.precision == kernels.BF16 && blas != noBlas {
		d.blas, d.withoutBlas = d.compute.NewBlas(blas)
		if err := d.withoutBlas; err != nil && (blas != "" || driver.IsOutOfMemory(err)) {
			return err // without its 32 MiB a model would not find its gigabytes
		}
	}
	if err := d.makeSlots(); err != nil {
		return err
	}
	d.limit, _, err = d.driver.Memory()
	return err
}

// Close implements kernels.Device. It gives everything back to the driver, unless the device is
// lost: then nothing can be given back, and waiting for it could take for ever.
func (d *Device) Close() error {
	if driver.IsLost(d.err) {
		*d = Device{err: errClosed}
		return nil
	}
	var all []error
	if d.compute != nil && d.copies != nil {
		all = append(all, d.compute.Synchronize(), d.copies.Synchronize())
	}
	for _, s := range d.slots {
		all = append(all, s.free.Close(), s.read.Close(), d.driver.FreePinned(s.memory))
	}
	if d.pinned != nil {
		all = append(all, d.driver.FreePinned(d.pinned))
	}
	for _, s := range d.slabs {
		all = append(all, d.driver.Free(s.at, s.bytes))
	}
	if d.blas != nil {
		all = append(all, d.blas.Close())
	}
	if d.module != nil {
		all = append(all, d.module.Close())
	}
	if d.reached != nil {
		all = append(all, d.reached.Close())
	}
	for _, s := range []*driver.Stream{d.compute, d.copies} {
		if s != nil {
			all = append(all, s.Close())
		}
	}
	all = append(all, d.driver.Close())
	*d = Device{err: errClosed}
	return errors.Join(all...)
}

var errClosed = errors.New("cuda: the device is closed")

// Name implements kernels.Device.
func (d *Device) Name() string {
	if d.driver == nil {
		return "cuda (closed)"
	}
	products := "own products"
	if d.blas != nil {
		products = d.blas.String()
	}
	info := d.driver.Info()
	return fmt.Sprintf("cuda:%d (%s, %s, %s)", info.Index, info.Name, d.precision, products)
}

// WithoutBlas is why products that cuBLAS could compute are computed by kernels of this package;
// nil where they are not.
func (d *Device) WithoutBlas() error { return d.withoutBlas }

// Precision is what products are computed in.
func (d *Device) Precision() kernels.Precision { return d.precision }

// Driver is the GPU, Stream the one that operations are queued on: for work that goes with them.
func (d *Device) Driver() *driver.Device { return d.driver }

// Stream is where operations are queued, in the order of the calls.
func (d *Device) Stream() *driver.Stream { return d.compute }

// Err returns the first error of the driver, after which operations do nothing. It is worth
// asking after whatever waits for the device, such as Sum; the error may be of an operation
// long before.
func (d *Device) Err() error { return d.err }

// failed keeps the first error and says whether there is one.
func (d *Device) failed(err error) bool {
	if d.err == nil {
		d.err = err
	}
	return d.err != nil
}

// Alloc implements kernels.Device. The memory is taken when it is first written; what does not
// fit the device even in halves is refused here.
func (d *Device) Alloc(n int) (kernels.Buffer, error) {
	if err := kernels.CheckAlloc("values", n); err != nil {
		return nil, err
	}
	if err := d.reserve("values", n, d.activations.bytes()*int64(n)); err != nil {
		return nil, err
	}
	m := &memory{n: n}
	m.current[floats].add(0, n)
	return &buffer{d, m, 0, n}, nil
}

func (d *Device) reserve(what string, n int, bytes int64) error {
	if d.err != nil {
		return d.err
	}
	if bytes > d.limit-d.reserved {
		return fmt.Errorf("cuda: %v: %d %s: %d bytes are free, and %d of them are taken already", d.driver, n, what, d.limit, d.reserved)
	}
	d.reserved += bytes
	return nil
}

// Allocated is the least that Alloc, AllocTokens and NewWeight take, in bytes.
func (d *Device) Allocated() int64 { return d.reserved }

// Taken is the number of bytes that the device's arena holds, in use or not.
func (d *Device) Taken() int64 {
	var n int64
	for _, s := range d.slabs {
		n += s.bytes
	}
	return n
}

// GPU describes the device, with what is free on it now.
func (d *Device) GPU() (driver.Info, error) {
	info := d.driver.Info()
	var err error
	info.Free, _, err = d.driver.Memory()
	return info, err
}

// launch queues a kernel on x·y·z blocks of block threads with shared bytes of dynamic memory.
// A grid without blocks is no launch.
func (d *Device) launch(name string, x, y, z, block, shared int, args ...uint64) {
	if d.err != nil || x == 0 || y == 0 || z == 0 {
		return
	}
	f := d.functions[name]
	if f == nil {
		panic("cuda: there is no kernel " + name)
	}
	n := copy(d.args[:], args) // so that a call's arguments stay on its stack
	d.failed(d.compute.Launch(f, x, y, z, block, shared, d.args[:n]))
}

// blocks is the number of parts that n items make when each has size of them.
func blocks(n, size int) int { return (n + size - 1) / size }

// elements is the number of blocks of 256 threads that take eight values each.
func elements(n int) int { return blocks(n, 8*256) }

// rowThreads is the number of threads, whole warps up to most, that take a row eight values each.
func rowThreads(width, most int) int { return min(most, blocks(max(width, 1), 8*32)*32) }

func bits(x float32) uint64 { return uint64(math.Float32bits(x)) }

func word(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// vector is the flag that says that rows of width values can be moved eight at a time: the
// rows' lengths allow it and so do all addresses.
func vector(width int, addresses ...uint64) uint64 {
	const flagVector = 16
	all := uint64(width % 8)
	for _, a := range addresses {
		all |= a % 16
	}
	if all != 0 {
		return 0
	}
	return flagVector
}

// forms are the flags of the forms of a kernel's first operands.
func forms(operands ...form) uint64 {
	var f uint64
	for i, o := range operands {
		f |= uint64(o) << i
	}
	return f
}
