package p2p

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"loco/mesh/meshtest"
)

// Two that start at the same moment and know of each other by mDNS alone find each other.
func TestMDNS(t *testing.T) {
	needMulticast(t)
	configs := make([]Config, 2)
	for i := range configs {
		configs[i] = mdnsConfig(t, 1)
	}
	meshes, errs := newTogether(t, configs)
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	awaitDistinct(t, meshes)
}

// Of two with one number one has it, and the other learns that it is taken: from New, or,
// where the two have found each other too late for that, from the first that it dials.
func TestMDNSOneNumber(t *testing.T) {
	needMulticast(t)
	log := newLogBuffer()
	configs := make([]Config, 2)
	for i := range configs {
		configs[i] = mdnsConfig(t, 2)
		configs[i].Worker, configs[i].Logger = 0, slog.New(slog.NewTextHandler(log, nil))
	}
	meshes, errs := newTogether(t, configs)
	for i, m := range meshes {
		var taken *WorkerTakenError
		if other := meshes[1-i]; m == nil && other != nil {
			if !errors.As(errs[i], &taken) || taken.By != other.Self() {
				t.Errorf("the other of one that joined: %v", errs[i])
			}
			return
		}
	}
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	log.await(t, "peer refused", "worker number 0 is taken")
	for _, m := range meshes {
		if members, _ := m.View(); meshtest.Live(members) != 1 {
			t.Errorf("two members have one number: %+v", members)
		}
	}
}

// mdnsConfig is of a run of this process and test alone: others on the network may test too.
func mdnsConfig(t *testing.T, run int) Config {
	c := testConfig(t)
	c.RunID = fmt.Sprintf("%08x%08x", os.Getpid(), run) + testRun
	c.MDNS = true
	return c
}

// newTogether starts members at once; an error's mesh is nil.
func newTogether(t *testing.T, configs []Config) ([]*Mesh, []error) {
	meshes, errs := make([]*Mesh, len(configs)), make([]error, len(configs))
	var wg sync.WaitGroup
	for i, c := range configs {
		wg.Go(func() { meshes[i], errs[i] = New(t.Context(), c) })
	}
	wg.Wait()
	for _, m := range meshes {
		if m != nil {
			t.Cleanup(func() { m.Close() })
		}
	}
	return meshes, errs
}

// needMulticast skips the test where no interface of this machine brings a multicast
// datagram back to it.
func needMulticast(t *testing.T) {
	t.Helper()
	interfaces, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	var why []error
	for _, i := range interfaces {
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagMulticast == 0 {
			continue
		}
		err := multicastOn(i)
		if err == nil {
			return
		}
		why = append(why, fmt.Errorf("%s: %w", i.Name, err))
	}
	if why == nil {
		t.Skip("mDNS needs multicast, and no interface that is up has it")
	}
	t.Skipf("mDNS needs multicast, and no interface brings it back:\n%v", errors.Join(why...))
}

// multicastOn sends datagrams to a group for experiments, at a port that the system
// chooses, until one comes back.
func multicastOn(i net.Interface) error {
	in, err := net.ListenMulticastUDP("udp4", &i, &net.UDPAddr{IP: net.IPv4(239, 255, 76, 67)})
	if err != nil {
		return err
	}
	defer in.Close()
	addrs, err := i.Addrs()
	if err != nil {
		return err
	}
	const word = "is this multicast?"
	var lost error = errors.New("it has no IPv4 address")
	for _, a := range addrs {
		own, ok := a.(*net.IPNet)
		if !ok || own.IP.To4() == nil {
			continue
		}
		out, err := net.DialUDP("udp4", &net.UDPAddr{IP: own.IP}, in.LocalAddr().(*net.UDPAddr))
		if err != nil {
			lost = err
			continue
		}
		defer out.Close()
		buf := make([]byte, len(word))
		for range 10 { // it may be lost
			if _, err := out.Write([]byte(word)); err != nil {
				lost = err
				break
			}
			in.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
			if n, err := in.Read(buf); err == nil && string(buf[:n]) == word {
				return nil
			} else if err != nil {
				lost = err
			}
		}
	}
	return lost
}
