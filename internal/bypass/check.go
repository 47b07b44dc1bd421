package bypass

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
)

// mostAddresses bounds what one call of Check probes. Each probe takes two connections at most.
const mostAddresses = 256

// concurrent is the number of probes at a time.
const concurrent = 32

// Check probes each address, host:port. A name stands for all its IP addresses. An address without a
// host stands for own, the addresses of this machine. The error is for an address that is malformed.
func Check(ctx context.Context, addresses []string, own []netip.Addr) ([]Finding, error) {
	return prober{timeout}.check(ctx, addresses, own)
}

func (p prober) check(ctx context.Context, addresses []string, own []netip.Addr) ([]Finding, error) {
	var findings []Finding
	for _, address := range addresses {
		host, port, err := net.SplitHostPort(address)
		if n, notNumber := strconv.ParseUint(port, 10, 16); err != nil || notNumber != nil || n == 0 {
			return nil, fmt.Errorf("%q is not an address: write host:port, or :port for this machine", address)
		}
		ips := own
		if host != "" {
			if ips, err = resolve(ctx, host); err != nil {
				findings = append(findings, Finding{Address: address, Result: Unknown, Detail: err.Error()})
				continue
			}
		}
		if len(ips) == 0 {
			findings = append(findings, Finding{Address: address, Result: Unknown, Detail: "no IP address"})
		}
		for _, ip := range ips {
			findings = append(findings, Finding{Address: address, IP: ip.String()})
		}
	}
	if len(findings) > mostAddresses {
		return nil, fmt.Errorf("%d IP addresses are more than %d", len(findings), mostAddresses)
	}
	p.probeAll(ctx, findings)
	return findings, nil
}

// resolve returns the IP addresses of a host.
func resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	var failed *net.DNSError
	if errors.As(err, &failed) {
		return nil, errors.New("the name has no address: " + failed.Err)
	}
	for i := range ips {
		ips[i] = ips[i].Unmap()
	}
	return ips, err
}

// probeAll sets the results of the findings that have an IP address.
func (p prober) probeAll(ctx context.Context, findings []Finding) {
	permits := make(chan struct{}, concurrent)
	var probing sync.WaitGroup
	for i := range findings {
		f := &findings[i]
		if f.IP == "" {
			continue
		}
		_, port, _ := net.SplitHostPort(f.Address) // Check has split the same address before
		permits <- struct{}{}
		probing.Go(func() {
			f.Result, f.Detail = p.probe(ctx, net.JoinHostPort(f.IP, port))
			<-permits
		})
	}
	probing.Wait()
}
