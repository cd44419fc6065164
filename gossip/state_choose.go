package gossip

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"loco/gossip/exchange"
	"loco/gossip/transfer"
	"loco/mesh"
)

// choose returns the state to fetch and the members that serve it: the one that an interrupted fetch
// was of, one that members serve already, or the one that most members stand at.
func (f *fetching) choose(lineage []transfer.Voice) (*transfer.Manifest, []mesh.ID, error) {
	if m, sources := f.resume(lineage); m != nil {
		return m, sources, nil
	}
	for _, mark := range candidates(lineage) {
		m, sources, _ := f.offers(lineage, transfer.Take{Kind: transfer.State, Exact: true, Round: mark.Round, Digest: mark.Digest})
		if m != nil {
			return m, sources, nil
		}
	}
	// Rounds are shorter than a question takes: whatever one member has, if the others
	// know it.
	var errs []error
	for _, v := range lineage {
		m, _, err := f.offers([]transfer.Voice{v}, transfer.Take{Kind: transfer.State})
		if m == nil {
			errs = append(errs, err)
			continue
		}
		voices, err := f.survey(f.members(), transfer.Ask{})
		again := transfer.Agree(voices)
		if digest, ok := transfer.Agreed(again, m.Round); !ok || digest != m.Digest {
			errs = append(errs, err, fmt.Errorf("worker %d (%s) offers state %x of round %d, which the others do not know", v.Worker, v.ID, m.Digest[:8], m.Round))
			continue
		}
		t := transfer.Take{Kind: transfer.State, Exact: true, Round: m.Round, Digest: m.Digest}
		m, sources, err := f.offers(again, t)
		if m != nil {
			return m, sources, nil
		}
		errs = append(errs, err)
	}
	return nil, nil, errors.Join(errs...)
}

// resume returns the manifest that an interrupted fetch has left, if it can be completed
// and brought up to date.
func (f *fetching) resume(lineage []transfer.Voice) (*transfer.Manifest, []mesh.ID) {
	m, file := loadPartial(f.cfg.StateDir, transfer.State, 0, uint64(f.cfg.MaxState))
	if file == nil {
		return nil, nil
	}
	defer file.close()
	if digest, ok := transfer.Agreed(lineage, m.Round); !ok || digest != m.Digest || !f.rooted(m) {
		return nil, nil
	}
	round := m.Round
	for { // results that were fetched then, and may not be kept by anybody now
		_, result := loadPartial(f.cfg.StateDir, transfer.Result, round, uint64(f.cfg.MaxState))
		if result == nil {
			break
		}
		result.close()
		round++
	}
	if !replayable(lineage, m.Round) && !replayable(lineage, round) {
		return nil, nil
	}
	var sources []mesh.ID
	for _, v := range lineage {
		if v.Held == m.ID() {
			sources = append(sources, v.ID)
		}
	}
	whole := 0
	file.scan(m, func(int, []byte) { whole++ })
	if whole < len(m.Chunks) && len(sources) == 0 {
		return nil, nil
	}
	f.cfg.Logger.Info("gossip: going on with a fetch that was interrupted", "round", m.Round, "whole", whole, "chunks", len(m.Chunks))
	return m, sources
}

// candidates returns the states to ask for, best first: only such as results lead on from.
func candidates(lineage []transfer.Voice) (marks []exchange.Mark) {
	held, here := map[uint64]int{}, map[uint64]int{}
	for _, v := range lineage {
		if replayable(lineage, v.Round) {
			here[v.Round]++
		}
		if v.Held != ([32]byte{}) && replayable(lineage, v.HeldRound) {
			held[v.HeldRound]++
		}
	}
	best := func(count map[uint64]int) (round uint64, n int) {
		for r, c := range count {
			if c > n || c == n && r > round {
				round, n = r, c
			}
		}
		return round, n
	}
	add := func(round uint64) {
		if d, ok := transfer.Agreed(lineage, round); ok && !slices.Contains(marks, exchange.Mark{Round: round, Digest: d}) {
			marks = append(marks, exchange.Mark{Round: round, Digest: d})
		}
	}
	h, nh := best(held)
	r, nr := best(here)
	if nh > 0 && 2*nh >= nr { // a copy that is there already, unless few have it
		add(h)
	}
	add(r)
	return marks
}

// offers asks members for a manifest and returns the one that most of them have, with
// the members that have it.
func (f *fetching) offers(members []transfer.Voice, t transfer.Take) (*transfer.Manifest, []mesh.ID, error) {
	type offer struct {
		m   *transfer.Manifest
		ids []mesh.ID
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	all, errs := make([]*transfer.Manifest, len(members)), make([]error, len(members))
	for i, v := range members {
		wg.Go(func() {
			m, err := f.take(v.ID, t)
			if err == nil && t.Kind == transfer.State && !f.rooted(m) {
				m, err = nil, fmt.Errorf("its manifest of round %d does not have the digest %x that it says", m.Round, m.Digest[:8])
			}
			mu.Lock()
			defer mu.Unlock()
			if all[i] = m; err != nil {
				errs[i] = fmt.Errorf("worker %d (%s): %w", v.Worker, v.ID, err)
			}
		})
	}
	wg.Wait()
	byID := map[[32]byte]*offer{}
	var best *offer
	for i, m := range all {
		if m == nil {
			continue
		}
		id := m.ID()
		if byID[id] == nil {
			byID[id] = &offer{m: m}
		}
		o := byID[id]
		o.ids = append(o.ids, members[i].ID)
		if best == nil || len(o.ids) > len(best.ids) {
			best = o
		}
	}
	if best == nil {
		return nil, nil, errors.Join(errs...)
	}
	return best.m, best.ids, nil
}

// rooted says that the digest of a state's manifest is that of its parts.
func (f *fetching) rooted(m *transfer.Manifest) bool {
	if f.cfg.StateRoot == nil {
		return true
	}
	sums := map[string][32]byte{}
	for _, p := range m.Parts {
		sums[p.Name] = p.Sum
	}
	return f.cfg.StateRoot(m.Round, sums) == m.Digest
}
