package storetest

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"loco/checkpoint"
)

// faults counts operations and fails the n-th, and all after it when the process is killed
// there.
type faults struct {
	mu     sync.Mutex
	armed  bool
	ops    []string // since armed
	failAt int      // counted from 1
	kill   bool
}

var errInjected = errors.New("injected")

func (f *faults) step(op string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.armed {
		return nil
	}
	f.ops = append(f.ops, op)
	if n := len(f.ops); n == f.failAt || f.kill && n > f.failAt {
		return fmt.Errorf("%s: %w", op, errInjected)
	}
	return nil
}

func (f *faults) arm(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.armed = on
}

// scene is a change of what is stored. Whatever fails, the store holds before or after.
type scene struct {
	name          string
	before, after []*checkpoint.State
	change        func(checkpoint.Store) error
}

func scenes() []scene {
	write := func(s *checkpoint.State) func(checkpoint.Store) error {
		return func(st checkpoint.Store) error {
			_, err := checkpoint.Write(ctx, st, s)
			return err
		}
	}
	one, five, six := Sample(1, 1), Sample(5, 1), Sample(5, 2)
	return []scene{
		{"the first put", nil, []*checkpoint.State{five}, write(five)},
		{"a put beside another", []*checkpoint.State{one}, []*checkpoint.State{one, five}, write(five)},
		{"a replacement", []*checkpoint.State{one, five}, []*checkpoint.State{one, six}, write(six)},
		{"a replacement of the only one", []*checkpoint.State{five}, []*checkpoint.State{six}, write(six)},
		{"a removal", []*checkpoint.State{one, five}, []*checkpoint.State{one}, func(st checkpoint.Store) error { return st.Remove(ctx, 5) }},
	}
}

// everyOperationFails fails the n-th operation of each scene for every n, and kills the
// process there.
func (s *suite) everyOperationFails() {
	for _, c := range scenes() {
		for _, kill := range []bool{false, true} {
			n := 1
			for s.failsAt(c, &faults{failAt: n, kill: kill}) {
				n++
			}
			if n < 4 {
				s.Errorf("%s has only %d operations: step is not called", c.name, n-1)
			}
		}
	}
}

// failsAt plays a scene on a medium of its own, and reports whether the fault was reached.
func (s *suite) failsAt(c scene, f *faults) (reached bool) {
	fresh := &suite{s.T, s.create(s.T), s.create}
	st, die := fresh.Open(f.step)
	unlock, err := st.Lock(ctx)
	if err != nil {
		s.Fatal(err)
	}
	for _, state := range c.before {
		fresh.put(st, state)
	}
	f.arm(true)
	err = c.change(st)
	reached = len(f.ops) >= f.failAt
	where := fmt.Sprintf("%s, operation %d of %q, kill %v", c.name, f.failAt, f.ops, f.kill)
	if reached != errors.Is(err, errInjected) {
		s.Errorf("%s: the error is %v", where, err)
	}
	if !f.kill {
		f.arm(false)
		fresh.either(where, st, c, err == nil)
		err2 := c.change(st) // once more, and nothing fails
		if err2 != nil {
			s.Errorf("%s: then: %v", where, err2)
		}
		fresh.either(where+", once more", st, c, true)
		if err := unlock(); err != nil {
			s.Errorf("%s: unlock: %v", where, err)
		}
	}
	die()
	for m := 1; f.kill && fresh.dyingLock(where, m); m++ {
	}
	next, end := fresh.process()
	fresh.either(where+", next process", next, c, err == nil || !f.kill)
	if left := fresh.Stray(); len(left) > 0 {
		s.Errorf("%s: the next process leaves %q", where, left)
	}
	if err := c.change(next); err != nil {
		s.Errorf("%s: the next process: %v", where, err)
	}
	fresh.holds(next, c.after...)
	end()
	return reached
}

// dyingLock is a process that dies at the m-th operation of Lock. It reports whether there
// were as many.
func (s *suite) dyingLock(where string, m int) bool {
	f := &faults{armed: true, failAt: m, kill: true}
	st, die := s.Open(f.step)
	_, err := st.Lock(ctx)
	die()
	reached := len(f.ops) >= m
	if reached != errors.Is(err, errInjected) {
		s.Errorf("%s, then operation %d of Lock, %q: %v", where, m, f.ops, err)
	}
	return reached
}

// either fails unless the store holds the scene's states before or, when it is done or may
// be, after.
func (s *suite) either(where string, st checkpoint.Store, c scene, done bool) {
	s.Helper()
	rounds, err := st.List(ctx)
	if err != nil {
		s.Errorf("%s: %v", where, err)
	}
	var got []string
	for _, round := range rounds {
		state, err := checkpoint.Read(ctx, st, round)
		if err != nil {
			s.Errorf("%s: visible, but: %v", where, err)
			return
		}
		got = append(got, bits(state))
	}
	texts := func(states []*checkpoint.State) (list []string) {
		for _, state := range states {
			list = append(list, bits(state))
		}
		return list
	}
	if slices.Equal(got, texts(c.after)) || !done && slices.Equal(got, texts(c.before)) {
		return
	}
	s.Errorf("%s: the store holds rounds %v, in a state that is neither before nor after (done: %v)", where, rounds, done)
}

// allocatedBy is the bytes that f allocates, with what other goroutines do.
func allocatedBy(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}
