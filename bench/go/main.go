// One hop of the chain on Go's standard library: the reference that `python -m bench` measures
// the others against. It takes the same environment variables as mockservice, carries the same
// headers and answers the same text.
package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	upstreamTimeout = 5 * time.Second
	upstreamLimit   = 1 << 20 // bytes of an upstream's answer
	gracePeriod     = 10 * time.Second
)

// Headers that a hop carries from its inbound request to its upstream.
var carried = set(
	"traceparent", "tracestate", "baggage",
	"b3", "x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled", "x-b3-flags",
	"x-request-id", "x-ot-span-context",
	"x-datadog-trace-id", "x-datadog-parent-id", "x-datadog-sampling-priority",
	"uber-trace-id", "x-cloud-trace-context", "grpc-trace-bin", "x-amzn-trace-id",
	"sw8", "sw8-correlation", "sw8-x",
	"x-asm-prefer-tag", "my-trace-id", "my-request-id", "end-user",
	"x-lane", "x-env", "x-version", "version", "env",
)

// set holds names the way http.Header has them, so that a lookup converts nothing.
func set(names ...string) map[string]struct{} {
	canonical := make(map[string]struct{}, len(names))
	for _, name := range names {
		canonical[http.CanonicalHeaderKey(name)] = struct{}{}
	}
	return canonical
}

type hop struct {
	line      string     // what this hop says of itself in the chain
	upstreams []*url.URL // none: this is the last hop
	client    *http.Client
}

func (h *hop) ServeHTTP(w http.ResponseWriter, inbound *http.Request) {
	chain := []byte(h.line)
	status := http.StatusOK
	if len(h.upstreams) == 1 {
		answer, upstreamStatus, err := h.call(inbound, h.upstreams[0])
		if err != nil {
			http.Error(w, h.line+"-> "+h.upstreams[0].Host+"(unreachable: "+err.Error()+")", http.StatusBadGateway)
			return
		}
		chain = append(chain, answer...)
		status = upstreamStatus
	} else if len(h.upstreams) > 1 {
		answers, upstreamStatus := h.callAll(inbound)
		chain = append(chain, '[')
		chain = append(chain, bytes.Join(answers, []byte("; "))...)
		chain = append(chain, ']')
		status = upstreamStatus
	}
	header := w.Header()
	header.Set("Content-Type", "text/plain; charset=utf-8")
	header.Set("Content-Length", strconv.Itoa(len(chain)))
	w.WriteHeader(status)
	w.Write(chain)
}

// callAll calls all upstreams at the same time. It returns what stands in their branches, and the
// status of the first that failed.
func (h *hop) callAll(inbound *http.Request) ([][]byte, int) {
	answers := make([][]byte, len(h.upstreams))
	statuses := make([]int, len(h.upstreams))
	var calls sync.WaitGroup
	for place, upstream := range h.upstreams {
		calls.Add(1)
		go func() {
			defer calls.Done()
			answer, status, err := h.call(inbound, upstream)
			if err != nil {
				answer = []byte("-> " + upstream.Host + "(unreachable: " + err.Error() + ")")
				status = http.StatusBadGateway
			}
			answers[place], statuses[place] = answer, status
		}()
	}
	calls.Wait()
	for _, status := range statuses {
		if status != http.StatusOK {
			return answers, status
		}
	}
	return answers, http.StatusOK
}

// call returns what the upstream answered, and its status.
func (h *hop) call(inbound *http.Request, upstream *url.URL) ([]byte, int, error) {
	header := make(http.Header, len(inbound.Header))
	for name, values := range inbound.Header {
		if _, ok := carried[name]; ok {
			header[name] = values
		}
	}
	request := &http.Request{Method: http.MethodGet, URL: upstream, Header: header}
	response, err := h.client.Do(request.WithContext(inbound.Context()))
	if err != nil {
		return nil, 0, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, upstreamLimit))
	return answer, response.StatusCode, err
}

func newClient() *http.Client {
	return &http.Client{
		Timeout: upstreamTimeout,
		Transport: &http.Transport{
			// The default keeps 2 idle connections for a host and would dial anew all the time.
			MaxIdleConnsPerHost: 1024,
			IdleConnTimeout:     90 * time.Second,
			DisableCompression:  true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func main() {
	host, port := os.Getenv("host"), os.Getenv("port")
	h := &hop{
		line:   "-> " + os.Getenv("app") + "(version: " + os.Getenv("version") + ", ip: " + host + ")",
		client: newClient(),
	}
	if text := os.Getenv("upstream_url"); text != "" {
		for _, one := range strings.Split(text, ",") {
			upstream, err := url.Parse(one)
			if err != nil {
				log.Fatal(err)
			}
			h.upstreams = append(h.upstreams, upstream)
		}
	}
	server := &http.Server{Addr: net.JoinHostPort(host, port), Handler: h}
	stop, _ := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		<-stop.Done()
		grace, cancel := context.WithTimeout(context.Background(), gracePeriod)
		defer cancel()
		server.Shutdown(grace)
	}()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
	<-drained
}
