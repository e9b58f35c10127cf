// The hop of ../lean with OpenTelemetry's instrumentation for net/http and its OTLP exporter, set up
// as its documentation has it. The OTEL_* environment variables apply.
package main

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/trace"
)

// Those that the propagators do not write.
var carried = []string{
	"B3", "X-Request-Id", "X-Asm-Prefer-Tag", "X-Lane", "X-Env", "X-Version", "Version", "Env",
}

func main() {
	host, upstream := os.Getenv("host"), os.Getenv("upstream_url")
	line := "-> " + os.Getenv("app") + "(version: " + os.Getenv("version") + ", ip: " + host + ")"

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		log.Fatal(err)
	}
	provider := trace.NewTracerProvider(trace.WithBatcher(exporter))
	otel.SetTracerProvider(provider)
	otel.SetTextMapPropagator(propagation.NewCompositeTextMapPropagator(
		propagation.TraceContext{}, propagation.Baggage{},
	))

	// The default keeps 2 idle connections for a host and would dial anew all the time.
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 1024
	client := &http.Client{Transport: otelhttp.NewTransport(transport)}

	handler := http.HandlerFunc(func(w http.ResponseWriter, inbound *http.Request) {
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
		response, err := client.Do(request)
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
	server := &http.Server{
		Addr:    net.JoinHostPort(host, os.Getenv("port")),
		Handler: otelhttp.NewHandler(handler, "hop"),
	}
	go server.ListenAndServe()
	<-ctx.Done()
	server.Shutdown(context.Background())
	if err := provider.Shutdown(context.Background()); err != nil {
		log.Fatal(err)
	}
}
