//go:build cuda && linux && amd64

package cuda

import (
	"errors"
	"fmt"

	"loco/kernels"
	"loco/kernels/cuda/driver"
)

// group is the kernels.Peers of several GPUs: ranges cross from GPU to GPU, directly where
// the machine has a path between them, and are added where they arrive. Each GPU works on
// its own range, so all links carry at once. Nothing waits on the host.
type group struct {
	members []*member
	stage   int // values of a stage
	through int // pairs of GPUs without a path between them, for which the host passes on what crosses
}

// Through says for how many ordered pairs of the GPUs copies go through the host.
func (g *group) Through() int { return g.through }

// member is one GPU of a group.
type member struct {
	*Device
	stage    [2]kernels.Buffer // one is filled while the other is added
	filled   [2]*driver.Event
	added    [2]*driver.Event
	ready    *driver.Event // its vector is, for others to read
	done     *driver.Event // it reads no other vector any more
	vector   kernels.Buffer
	at       driver.Ptr // of vector
	lo, hi   int        // the range that it owns
	own      []kernels.Buffer
	stageOwn [2][]kernels.Buffer // views of stage, as long as those of own
}

// stageValues is the length of a stage: 16 MiB cross while as many are added.
const stageValues = 4 << 20

// OpenAll opens GPUs by their numbers. peers is nil when there is one.
func OpenAll(numbers []int, precision kernels.Precision) (devices []kernels.Device, peers kernels.Peers, err error) {
	return openAll(numbers, precision, stageValues)
}

func openAll(numbers []int, precision kernels.Precision, stage int) (devices []kernels.Device, peers kernels.Peers, err error) {
	g := &group{stage: stage}
	for _, n := range numbers {
		d, err := Open(n, precision)
		if err != nil {
			return nil, nil, errors.Join(err, g.closeAll())
		}
		g.members = append(g.members, &member{Device: d})
		devices = append(devices, d)
	}
	if len(numbers) == 1 {
		return devices, nil, nil
	}
	for _, m := range g.members {
		if err := g.prepare(m); err != nil {
			return nil, nil, errors.Join(err, g.closeAll())
		}
	}
	return devices, g, nil
}

func (g *group) closeAll() (err error) {
	for _, m := range g.members {
		err = errors.Join(err, m.Close())
	}
	return err
}

// prepare makes what a member needs. Events are its device's, which outlives the group.
func (g *group) prepare(m *member) (err error) {
	for _, other := range g.members {
		if other != m {
			direct, err := m.driver.EnablePeer(other.driver)
			if err != nil {
				return err
			}
			if !direct {
				g.through++
			}
		}
	}
	for i := range m.stage {
		if m.stage[i], err = m.Alloc(g.stage); err != nil {
			return fmt.Errorf("cuda: sum between devices: %w", err)
		}
		m.WriteFloats("reduce", m.stage[i]) // takes the memory, and zeroes it
	}
	m.follow(m.copies, m.compute) // what comes from another GPU must not be zeroed
	for _, e := range []**driver.Event{&m.filled[0], &m.filled[1], &m.added[0], &m.added[1], &m.ready, &m.done} {
		if *e, err = m.driver.NewEvent(false); err != nil {
			return err
		}
	}
	return m.err
}

// begin notes where the vectors are and lets every GPU read them from here on. Views are
// made when the vectors are new.
func (g *group) begin(op string, vectors []kernels.Buffer) {
	if len(vectors) != len(g.members) {
		panic(fmt.Sprintf("cuda: %s of %d vectors on %d devices", op, len(vectors), len(g.members)))
	}
	for k, m := range g.members {
		kernels.CheckSame(op, "vector", vectors[k].Len(), vectors[0].Len())
		m.at = m.WriteFloats(op, vectors[k])
		m.failed(m.compute.Record(m.ready))
		if m.vector != vectors[k] {
			m.cut(vectors[k], len(g.members), k, g.stage)
		}
	}
}

// cut makes the views of the range that a member owns, in pieces of size values.
func (m *member) cut(vector kernels.Buffer, count, k, size int) {
	m.vector, m.own, m.stageOwn = vector, nil, [2][]kernels.Buffer{}
	m.lo, m.hi = kernels.Shard(vector.Len(), count, k)
	for lo := m.lo; lo < m.hi; lo += size {
		hi := min(lo+size, m.hi)
		m.own = append(m.own, vector.Slice(lo, hi))
		for i := range m.stage {
			m.stageOwn[i] = append(m.stageOwn[i], m.stage[i].Slice(0, hi-lo))
		}
	}
}

// end lets no GPU change its vector while another reads it.
func (g *group) end() {
	for _, m := range g.members {
		m.failed(m.copies.Record(m.done))
	}
	for _, m := range g.members {
		for _, other := range g.members {
			m.failed(m.compute.Wait(other.done))
		}
	}
}

// ReduceScatter implements kernels.Peers.
func (g *group) ReduceScatter(vectors []kernels.Buffer) {
	g.begin("reduce", vectors)
	for k, m := range g.members {
		piece := 0
		for i := 1; i < len(g.members); i++ {
			from := g.members[(k+i)%len(g.members)]
			m.failed(m.copies.Wait(from.ready))
			for at, own := range m.own {
				m.add(own, m.stageOwn[piece%2][at], piece%2, from, m.lo+at*g.stage)
				piece++
			}
		}
	}
	g.end()
}

// add adds to own what another member has at its vector's value lo, through a stage.
func (m *member) add(own, stage kernels.Buffer, i int, from *member, lo int) {
	if m.err != nil || from.err != nil {
		m.failed(from.err) // a sum without it is none
		return
	}
	at := m.WriteFloats("reduce", stage)
	m.failed(m.copies.Wait(m.added[i])) // at first it was never recorded, which is no wait
	m.failed(m.copies.CopyPeer(at, from.at+driver.Ptr(4*lo), from.driver, 4*int64(own.Len())))
	m.failed(m.copies.Record(m.filled[i]))
	m.failed(m.compute.Wait(m.filled[i]))
	m.Add(own, stage)
	m.failed(m.compute.Record(m.added[i]))
}

// copyFrom copies values lo to hi of another member's vector.
func (m *member) copyFrom(from *member, lo, hi int) {
	m.failed(m.copies.CopyPeer(m.at+driver.Ptr(4*lo), from.at+driver.Ptr(4*lo), from.driver, 4*int64(hi-lo)))
}

// AllGather implements kernels.Peers.
func (g *group) AllGather(vectors []kernels.Buffer) {
	g.begin("gather", vectors)
	for _, m := range g.members {
		m.failed(m.copies.Wait(m.ready))
		for _, from := range g.members {
			if from == m || m.err != nil || m.failed(from.err) {
				continue
			}
			m.failed(m.copies.Wait(from.ready))
			m.copyFrom(from, from.lo, from.hi)
		}
	}
	g.end()
}

// Broadcast implements kernels.Peers. Each GPU takes its own range from GPU 0, whose link so
// carries the vector once and not once for each, and then the others' from those that own them.
func (g *group) Broadcast(vectors []kernels.Buffer) {
	g.begin("broadcast", vectors)
	first := g.members[0]
	for _, m := range g.members[1:] {
		if m.err != nil || m.failed(first.err) {
			continue
		}
		m.failed(m.copies.Wait(m.ready))
		m.failed(m.copies.Wait(first.ready))
		m.copyFrom(first, m.lo, m.hi)
	}
	g.end()
	g.AllGather(vectors)
}
