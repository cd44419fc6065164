package trainer

import (
	"fmt"

	"loco/kernels"
)

// mirror is the host's copy of an outer state that lies on a device: what is saved and
// given to joiners without a word to the device, and what is left of a run whose device is
// lost. It takes every outer step too, from the same bytes, while the device trains on; its
// bits must be the device's, so memory that forgets is found within a round. Its methods do
// nothing where there is none, which is where the state lies in the host's memory itself.
type mirror struct {
	*vectors
	done chan struct{} // the last step is taken
	sums sums
}

// sums are the digests of φ and δ.
type sums struct{ slow, momentum [32]byte }

// newMirror returns nil for vectors that the host holds itself.
func newMirror(cfg *Config, v *vectors) (*mirror, error) {
	if v.slow == nil || kernels.HostValues(v.slow) != nil {
		return nil, nil
	}
	m := &mirror{vectors: &vectors{Device: cfg.Host}}
	n := v.slow.Len()
	var err error
	if m.grad, err = m.Alloc(n); err == nil {
		err = m.alloc(cfg, n)
	}
	if err != nil {
		return nil, fmt.Errorf("trainer: the host's copy of %d parameters: %w", n, err)
	}
	m.refresh(v)
	return m, nil
}

// follow takes a step, behind the back of the caller.
func (m *mirror) follow(step func(*vectors)) {
	if m == nil {
		return
	}
	m.wait()
	done := make(chan struct{})
	m.done = done
	go func() {
		defer close(done)
		step(m.vectors)
		m.sums = m.vectors.sums()
	}()
}

// refresh copies the device's state, unless the device is lost: then the copy is a step
// behind.
func (m *mirror) refresh(v *vectors) {
	if m == nil {
		return
	}
	m.wait()
	scratch := kernels.HostValues(m.grad)
	for _, c := range [][2]kernels.Buffer{{m.slow, v.slow}, {m.momentum, v.momentum}} {
		v.Download(scratch, c[1])
		if v.learner.Err() != nil {
			return
		}
		m.Upload(c[0], scratch)
	}
	m.follow(func(*vectors) {})
}

func (m *mirror) wait() {
	if m != nil && m.done != nil {
		<-m.done
	}
}

// check compares the copy with the device's sums.
func (m *mirror) check(round uint64, device sums) error {
	if m == nil {
		return nil
	}
	m.wait()
	if m.sums != device {
		return fmt.Errorf("trainer: round %d: φ on the device has digest %x and δ %x, the host's copies, which took the same steps, have %x and %x: %w: its memory or arithmetic errs",
			round, device.slow[:8], device.momentum[:8], m.sums.slow[:8], m.sums.momentum[:8], ErrDevice)
	}
	return nil
}
