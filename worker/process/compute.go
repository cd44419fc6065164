package process

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"loco/kernels"
	"loco/kernels/cpu"
	"loco/kernels/cuda"
	"loco/kernels/cuda/driver"
	"loco/trainer"
	"loco/trainer/model"
	"loco/worker/config"
)

// compute is what a worker computes on: the CPU, or one GPU, or several.
type compute struct {
	devices []kernels.Device
	peers   kernels.Peers  // of several
	host    trainer.Device // beside GPUs: the CPU, for what the host does of a round; nil on the CPU
	gpus    []driver.Info  // of devices; nil on the CPU
	why     string         // why the CPU, where a GPU was looked for
}

// gpu is what cuda's devices have besides.
type gpu interface {
	Err() error
	GPU() (driver.Info, error)
	WithoutBlas() error
}

// openCompute opens what the configuration asks for. number is the worker's: under auto
// the workers of a machine take its GPUs in turns.
func openCompute(in config.Inner, number int) (*compute, error) {
	if in.Device == config.CPU {
		return openCPU(in, "")
	}
	list, err := driver.Present()
	if gpu, ok := in.GPU(); ok || len(in.Devices) > 0 {
		if err != nil {
			return nil, fmt.Errorf("inner.device: %w", err)
		}
		if ok {
			return openGPUs(in, list, []int{gpu})
		}
		return openGPUs(in, list, in.Devices)
	}
	if errors.Is(err, driver.ErrWithout) {
		return openCPU(in, "") // a binary without CUDA needs no reason for the CPU
	}
	if err != nil {
		return openCPU(in, err.Error())
	}
	var usable []int
	var why error
	for _, d := range list {
		if d.Reason == nil {
			usable = append(usable, d.Index)
		} else if why == nil {
			why = d.Reason
		}
	}
	if len(usable) == 0 {
		return openCPU(in, fmt.Sprintf("none of %d GPUs can train: %v", len(list), why))
	}
	for k := range usable {
		c, err := openGPUs(in, list, []int{usable[(number+k)%len(usable)]})
		if err == nil {
			return c, nil
		}
		if why == nil {
			why = err
		}
	}
	return openCPU(in, why.Error())
}

func openCPU(in config.Inner, why string) (*compute, error) {
	d, err := cpu.New(in.Threads, kernels.Precision(in.Precision))
	if err != nil {
		return nil, err
	}
	return &compute{devices: []kernels.Device{d}, why: why}, nil
}

func openGPUs(in config.Inner, list []driver.Info, numbers []int) (*compute, error) {
	c := &compute{}
	for _, n := range numbers {
		at := slices.IndexFunc(list, func(d driver.Info) bool { return d.Index == n })
		if at < 0 {
			return nil, fmt.Errorf("there is no cuda:%d on this machine: it has %d GPUs, numbered from 0; loco config show --devices lists them", n, len(list))
		}
		if list[at].Reason != nil {
			return nil, list[at].Reason
		}
	}
	host, err := cpu.New(in.Threads, kernels.FP32)
	if err != nil {
		return nil, err
	}
	c.host = host
	if c.devices, c.peers, err = cuda.OpenAll(numbers, kernels.Precision(in.Precision)); err != nil {
		return nil, errors.Join(err, host.Close())
	}
	for _, d := range c.devices {
		info, err := d.(gpu).GPU()
		if err != nil {
			return nil, errors.Join(err, c.close())
		}
		c.gpus = append(c.gpus, info)
	}
	return c, nil
}

// tell leaves what the worker computes on in its log.
func (c *compute) tell(log *slog.Logger) {
	log.Info("computes on", "device", c.name(), "why", c.why)
	if p, ok := c.peers.(interface{ Through() int }); ok && p.Through() > 0 {
		log.Warn("some of these GPUs have no path between them: what crosses goes through the host's memory", "pairs", p.Through())
	}
	for _, d := range c.devices {
		if d, ok := d.(gpu); ok && d.WithoutBlas() != nil {
			log.Info("products are computed by loco's own kernels", "device", c.name(), "why", d.WithoutBlas())
		}
	}
}

// name says what computes: "cpu (2 threads, AVX2, fp32)", or every GPU.
func (c *compute) name() string {
	var names []string
	for _, d := range c.devices {
		names = append(names, d.Name())
	}
	return strings.Join(names, " and ")
}

// kind is "cpu" or "cuda".
func (c *compute) kind() string {
	if c.gpus != nil {
		return "cuda"
	}
	return "cpu"
}

func (c *compute) close() (err error) {
	for _, d := range c.devices {
		err = errors.Join(err, d.Close())
	}
	if c.host != nil {
		err = errors.Join(err, c.host.Close())
	}
	return err
}

// ShowDevices lists every value of inner.device that this machine has, or why it has no
// GPU.
func ShowDevices(w io.Writer) error {
	list, err := driver.Devices()
	if err != nil {
		fmt.Fprintf(w, "no GPU: %v\n", err)
	}
	for _, d := range list {
		fmt.Fprintln(w, d)
	}
	d, err := cpu.New(0, kernels.Auto)
	if err != nil {
		return err
	}
	fmt.Fprintln(w, d.Name())
	return d.Close()
}

// peakRate measures the devices' matrix-multiply rate, in operations per second: the
// best of a few products, on a CPU of matrices that fit the cache. A GPU's are larger,
// for as long as they take less than a millisecond and the model has as many parameters:
// they multiply those, into a gradient that is not in use yet.
func (c *compute) peakRate(m *model.Model) (rate float64) {
	dev := c.devices[0]
	for n := 256; n <= 4096; n *= 2 {
		p, a, b, ok := matrices(dev, m, n)
		if !ok {
			break
		}
		best := time.Duration(1 << 62)
		for range 4 {
			began := time.Now()
			dev.MatMul(p, a, b, n, n, n, false, true, false)
			dev.Sum(p.Slice(0, 1)) // waits for the product
			best = min(best, time.Since(began))
		}
		rate = float64(len(c.devices)) * 2 * float64(n) * float64(n) * float64(n) / best.Seconds()
		if c.gpus == nil || best > time.Millisecond {
			break
		}
	}
	return rate
}

// matrices are three of n·n values: the model's, or of their own where they are small.
func matrices(dev kernels.Device, m *model.Model, n int) (p, a, b kernels.Buffer, ok bool) {
	if m.Params().Len() >= 2*n*n {
		return m.Grads().Slice(0, n*n), m.Params().Slice(0, n*n), m.Params().Slice(n*n, 2*n*n), true
	}
	if n > 256 {
		return nil, nil, nil, false
	}
	buf, err := dev.Alloc(3 * n * n)
	if err != nil {
		return nil, nil, nil, false
	}
	return buf.Slice(0, n*n), buf.Slice(n*n, 2*n*n), buf.Slice(2*n*n, 3*n*n), true
}

// fits refuses a model that cannot be in a GPU's free memory, before anything is sent
// there or to other workers.
func (s *Spec) fits(c *compute) error {
	for _, gpu := range c.gpus {
		if need := s.gpuMemory(s.model, s.cfg.MicroBatch()); need > gpu.Free {
			return Usage(fmt.Errorf("this run needs at least %s on cuda:%d (%s), which has %s of %s free: %s",
				FormatBytes(uint64(need)), gpu.Index, gpu.Name, FormatBytes(uint64(gpu.Free)), FormatBytes(uint64(gpu.Total)), s.lessMemory(gpu.Free)))

		}
	}
	return nil
}

// gpuMemory is the least that a model needs on a GPU.
func (s *Spec) gpuMemory(m model.Config, microBatch int) int64 {
	need := m.Memory(microBatch)
	if kernels.Precision(s.cfg.Inner.Precision) == kernels.FP32 {
		return need.Total() - need.Packed
	}
	return need.Halves()
}

// gpuSpare is what may be missing from that: what an operation uses while it runs, cuBLAS's own
// kernels, and the rest of the arena's last piece.
const gpuSpare = 256 << 20

// rehearse takes a step of nothing on every GPU: its memory is taken, and what does not fit is
// known, before anything is sent to other workers.
func (s *Spec) rehearse(c *compute, replicas []trainer.Replica) error {
	if len(c.gpus) == 0 {
		return nil
	}
	for _, r := range replicas {
		r.Model.Rehearse()
		if err := r.Device.(gpu).Err(); err != nil {
			return s.explain(fmt.Errorf("try a step before the run: %w", err))
		}
	}
	return nil
}

// placeOuter keeps the outer state on the first GPU if the model has left room for it.
func (s *Spec) placeOuter(t *trainer.Config, c *compute) error {
	if len(c.gpus) == 0 {
		return nil
	}
	now, err := c.devices[0].(gpu).GPU()
	if err != nil {
		return err
	}
	row, err := s.cfg.Row()
	if err != nil {
		return err
	}
	t.Host = c.host
	t.OuterOnHost = 4*int64(s.Parameters())*int64(len(row.Vectors)) > now.Free-gpuSpare
	return nil
}

// lessMemory says which keys to change for a run to fit into free bytes.
func (s *Spec) lessMemory(free int64) string {
	share := s.cfg.Inner.Batch / max(1, len(s.cfg.Inner.Devices))
	for _, checkpointing := range []bool{s.model.Checkpoint, true} {
		for micro := s.cfg.MicroBatch(); micro > 0; micro-- {
			m := s.model
			m.Checkpoint = checkpointing
			if share%micro != 0 {
				continue
			}
			if s.gpuMemory(m, micro) <= free-gpuSpare {
				advice := fmt.Sprintf("set inner.micro_batch = %d", micro)
				if checkpointing != s.model.Checkpoint {
					advice += " and model.checkpointing = true"
				}
				return advice
			}
		}
	}
	return "even with inner.micro_batch = 1 and model.checkpointing = true it does not fit: take a smaller model, or free memory that other programs hold"
}

// wantLess adds to an error about memory which keys need less.
func (s *Spec) wantLess(err error) error {
	return fmt.Errorf("%w; a smaller inner.micro_batch (now %d) or model.checkpointing = true (now %v) needs less memory", err, s.cfg.MicroBatch(), s.model.Checkpoint)
}

// explain adds to an error what a person can change.
func (s *Spec) explain(err error) error {
	switch {
	case driver.IsOutOfMemory(err):
		return s.wantLess(err)
	case driver.IsLost(err):
		return fmt.Errorf("%w; the device is of no more use to this process: start the worker again, and it goes on from its newest checkpoint", err)
	}
	return err
}
