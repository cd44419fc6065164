package trainer

import (
	"fmt"
	"maps"

	"loco/kernels"
	"loco/trainer/strategy"
)

// mirror is the host's copy of an outer state that lies on a device: what is saved and
// given to joiners without a word to the device, and what is left of a run whose device is
// lost. It takes every outer step too, from the same bytes, while the device trains on; its
// bits must be the device's, so memory that forgets is found within a round. Its methods do
// nothing where there is none, which is where the state lies in the host's memory itself.
type mirror struct {
	*vectors
	done chan struct{} // the last step is taken
	sums map[string][32]byte
}

// newMirror returns nil for vectors that the host holds itself.
func newMirror(cfg *Config, v *vectors) (*mirror, error) {
	slow := v.slow()
	if slow == nil || kernels.HostValues(slow) != nil {
		return nil, nil
	}
	m := &mirror{vectors: &vectors{Vectors: strategy.Vectors{Device: cfg.Host}, specs: v.specs}}
	n := slow.Len()
	var err error
	if m.Grad, err = m.Alloc(n); err == nil {
		err = m.alloc(n)
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
	scratch := kernels.HostValues(m.Grad)
	for _, s := range m.specs {
		if !s.Saved && !s.Shared {
			continue
		}
		v.Download(scratch, v.Of(s.Name))
		if v.learner.Err() != nil {
			return
		}
		m.Upload(m.Of(s.Name), scratch)
	}
	m.follow(func(*vectors) {})
}

func (m *mirror) wait() {
	if m != nil && m.done != nil {
		<-m.done
	}
}

// check compares the copy with the device's sums.
func (m *mirror) check(round uint64, device map[string][32]byte) error {
	if m == nil {
		return nil
	}
	m.wait()
	if maps.Equal(m.sums, device) {
		return nil
	}
	for _, s := range m.specs {
		if here, there := m.sums[s.Name], device[s.Name]; here != there {
			return fmt.Errorf("trainer: round %d: vector %q on the device has digest %x, the host's copy, which took the same steps, has %x: %w: its memory or arithmetic errs",
				round, s.Name, there[:8], here[:8], ErrDevice)
		}
	}
	return nil
}
