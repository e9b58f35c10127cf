// One hop of the chain as a Go developer writes it first: the default client, without a timeout,
// and the default server. It takes the same environment variables as ../main.go, carries the same
// kind of headers and answers the same text.
package main

import (
	"io"
	"log"
	"net"
	"net/http"
	"os"
)

var carried = []string{
	"Traceparent", "Tracestate", "Baggage", "B3", "X-Request-Id", "X-Asm-Prefer-Tag",
	"X-Lane", "X-Env", "X-Version", "Version", "Env",
}

func main() {
	host, upstream := os.Getenv("host"), os.Getenv("upstream_url")
	line := "-> " + os.Getenv("app") + "(version: " + os.Getenv("version") + ", ip: " + host + ")"
	// The only setting: the default keeps 2 idle connections for a host and would dial anew all
	// the time.
	http.DefaultTransport.(*http.Transport).MaxIdleConnsPerHost = 1024

	http.HandleFunc("/", func(w http.ResponseWriter, inbound *http.Request) {
		if upstream == "" {
			io.WriteString(w, line)
			return
		}
		request, err := http.NewRequestWithContext(inbound.Context(), http.MethodGet, upstream, nil)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		for _, name := range carried {
			if values, ok := inbound.Header[name]; ok {
				request.Header[name] = values
			}
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			http.Error(w, line+"-> "+upstream+"(unreachable: "+err.Error()+")", http.StatusBadGateway)
			return
		}
		defer response.Body.Close()
		answer, err := io.ReadAll(response.Body)
		if err != nil {
			http.Error(w, line+"-> "+upstream+"(unreachable: "+err.Error()+")", http.StatusBadGateway)
			return
		}
		w.WriteHeader(response.StatusCode)
		io.WriteString(w, line)
		w.Write(answer)
	})
	log.Fatal(http.ListenAndServe(net.JoinHostPort(host, os.Getenv("port")), nil))
}
