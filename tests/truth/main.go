// The program of `make truth`: it asks Istio's pilot what it would send to the proxies of a mesh.
//
//	pilot CASES ANSWERS
//
// CASES is a file of JSON: a list of cases, each with the objects of a cluster and its proxies.
// ANSWERS becomes a list of what pilot sends to each of them, as Envoy's configuration in JSON,
// without what only runs in a cluster: certificates, Istio's own filters, localities, telemetry.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcp "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"istio.io/istio/pilot/pkg/config/kube/crd"
	"istio.io/istio/pilot/pkg/model"
	"istio.io/istio/pilot/pkg/networking/core"
	"istio.io/istio/pilot/test/xds"
	"istio.io/istio/pkg/config"
	"istio.io/istio/pkg/config/schema/collections"
	"istio.io/istio/pkg/config/schema/resource"
	"istio.io/istio/pkg/log"
	"istio.io/istio/pkg/test"
)

const (
	// What the hosts of rules are completed with.
	domain = "cluster.local"
	// The version of the proxies: that of pilot. The minor version decides what they are sent.
	proxyVersion = "1.31.0"
	// Pilot reads its objects on its own time: its answer counts once it is the same twice.
	pause    = 50 * time.Millisecond
	attempts = 100
)

// Case is a cluster: Kubernetes' own objects and those of the Gateway API, as an API server would
// return them, Istio's objects, and the proxies that ask.
type Case struct {
	Name    string            `json:"name"`
	Objects []json.RawMessage `json:"objects"`
	Configs []json.RawMessage `json:"configs"`
	Proxies []Proxy           `json:"proxies"`
}

// Proxy is a gateway or the sidecar of a pod.
type Proxy struct {
	Name           string            `json:"name"`
	IsGateway      bool              `json:"is_gateway"`
	Namespace      string            `json:"namespace"`
	ServiceAccount string            `json:"service_account"`
	Labels         map[string]string `json:"labels"`
	IP             string            `json:"ip"`
}

// Answer is what pilot sends to the proxies, or why it refuses the objects.
type Answer struct {
	Name    string                   `json:"name"`
	Refused string                   `json:"refused,omitempty"`
	Proxies map[string]Configuration `json:"proxies"`
}

// Configuration is what pilot sends to one proxy.
type Configuration struct {
	Listeners []json.RawMessage `json:"listeners"`
	Routes    []json.RawMessage `json:"routes"`
	Clusters  []json.RawMessage `json:"clusters"`
}

func main() {
	if len(os.Args) != 3 {
		fail("usage: pilot CASES ANSWERS")
	}
	options := log.DefaultOptions()
	options.SetDefaultOutputLevel("all", log.NoneLevel)
	if err := log.Configure(options); err != nil {
		fail(err)
	}
	text, err := os.ReadFile(os.Args[1])
	if err != nil {
		fail(err)
	}
	var cases []Case
	if err := json.Unmarshal(text, &cases); err != nil {
		fail(err)
	}
	var answers []Answer
	for _, one := range cases {
		answer, err := ask(one)
		if err != nil {
			fail(fmt.Sprintf("%s: %v", one.Name, err))
		}
		answers = append(answers, answer)
	}
	found, err := json.Marshal(answers)
	if err != nil {
		fail(err)
	}
	if err := os.WriteFile(os.Args[2], found, 0o644); err != nil {
		fail(err)
	}
}

func fail(reason any) {
	fmt.Fprintln(os.Stderr, reason)
	os.Exit(1)
}

func ask(one Case) (Answer, error) {
	answer := Answer{Name: one.Name, Proxies: map[string]Configuration{}}
	configs, err := istioConfigs(one.Configs)
	if err != nil {
		answer.Refused = err.Error()
		return answer, nil
	}
	objects := make([]string, 0, len(one.Objects))
	for _, object := range one.Objects {
		objects = append(objects, string(object))
	}
	err = test.Wrap(func(t test.Failer) {
		server := xds.NewFakeDiscoveryServer(t, xds.FakeOptions{
			KubernetesObjectString: strings.Join(objects, "\n---\n"),
			Configs:                configs,
		})
		for range attempts {
			before := answer.Proxies
			time.Sleep(pause)
			server.Discovery.ConfigUpdate(&model.PushRequest{Forced: true})
			server.EnsureSynced(t)
			answer.Proxies = map[string]Configuration{}
			for _, proxy := range one.Proxies {
				found, err := configuration(server, proxy)
				if err != nil {
					t.Fatalf("%s: %v", proxy.Name, err)
				}
				answer.Proxies[proxy.Name] = found
			}
			if same(before, answer.Proxies) {
				return
			}
		}
		t.Fatal("pilot sends something else each time")
	})
	return answer, err
}

func same(before, after map[string]Configuration) bool {
	one, _ := json.Marshal(before)
	other, _ := json.Marshal(after)
	return bytes.Equal(one, other)
}

// istioConfigs reads Istio's objects, and validates them as its webhook does.
func istioConfigs(objects []json.RawMessage) ([]config.Config, error) {
	var found []config.Config
	for _, text := range objects {
		var object crd.IstioKind
		if err := json.Unmarshal(text, &object); err != nil {
			return nil, err
		}
		kind := object.GroupVersionKind()
		schema, exists := collections.PilotGatewayAPI().FindByGroupVersionAliasesKind(
			resource.FromKubernetesGVK(&kind))
		if !exists {
			return nil, fmt.Errorf("unknown kind %v", kind)
		}
		converted, err := crd.ConvertObject(schema, &object, domain)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %v", object.Kind, object.Name, err)
		}
		if _, err := schema.ValidateConfig(*converted); err != nil {
			return nil, fmt.Errorf("%s %s: %v", object.Kind, object.Name, err)
		}
		found = append(found, *converted)
	}
	return found, nil
}

func configuration(server *xds.FakeDiscoveryServer, of Proxy) (Configuration, error) {
	kind := model.SidecarProxy
	if of.IsGateway {
		kind = model.Router
	}
	proxy := server.SetupProxy(&model.Proxy{
		Type:            kind,
		ID:              of.Name + "." + of.Namespace,
		IPAddresses:     []string{of.IP},
		ConfigNamespace: of.Namespace,
		Labels:          of.Labels,
		Metadata: &model.NodeMetadata{
			ClusterID:      server.KubeRegistry.Cluster(),
			IstioVersion:   proxyVersion,
			Labels:         of.Labels,
			Namespace:      of.Namespace,
			ServiceAccount: of.ServiceAccount,
		},
	})
	listeners := server.Listeners(proxy)
	var found Configuration
	for _, one := range listeners {
		if err := reduceListener(one); err != nil {
			return found, err
		}
	}
	routes := server.ConfigGen
	resources, _ := routes.BuildHTTPRoutes(proxy, &model.PushRequest{Push: server.PushContext()},
		core.ExtractRoutesFromListeners(listeners))
	endpoints := map[string]*endpoint.ClusterLoadAssignment{}
	for _, one := range server.Endpoints(proxy) {
		endpoints[one.ClusterName] = one
	}
	for _, one := range listeners {
		if err := add(&found.Listeners, one); err != nil {
			return found, err
		}
	}
	for _, one := range resources {
		message, err := one.Resource.UnmarshalNew()
		if err != nil {
			return found, err
		}
		if err := add(&found.Routes, message); err != nil {
			return found, err
		}
	}
	for _, one := range server.Clusters(proxy) {
		reduceCluster(one, endpoints[one.Name])
		if err := add(&found.Clusters, one); err != nil {
			return found, err
		}
	}
	// Pilot keeps some of them in maps.
	for _, some := range [][]json.RawMessage{found.Listeners, found.Routes, found.Clusters} {
		slices.SortFunc(some, func(one, other json.RawMessage) int { return bytes.Compare(one, other) })
	}
	return found, nil
}

// add appends Envoy's JSON of a message; protojson itself puts in spaces at random.
func add(to *[]json.RawMessage, message proto.Message) error {
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(message)
	if err != nil {
		return err
	}
	var plain bytes.Buffer
	if err := json.Compact(&plain, text); err != nil {
		return err
	}
	*to = append(*to, plain.Bytes())
	return nil
}

// reduceListener leaves the filters that route, and those that find out the protocol.
func reduceListener(one *listener.Listener) error {
	one.AccessLog = nil
	one.ListenerFilters = slices.DeleteFunc(one.ListenerFilters, func(f *listener.ListenerFilter) bool {
		return f.Name != "envoy.filters.listener.http_inspector"
	})
	chains := one.FilterChains
	if one.DefaultFilterChain != nil {
		chains = append(slices.Clone(chains), one.DefaultFilterChain)
	}
	for _, chain := range chains {
		chain.TransportSocket = nil
		chain.Metadata = nil
		var kept []*listener.Filter
		for _, filter := range chain.Filters {
			manager, proxy := &hcm.HttpConnectionManager{}, &tcp.TcpProxy{}
			var reduced proto.Message
			if filter.GetTypedConfig().MessageIs(manager) {
				if err := filter.GetTypedConfig().UnmarshalTo(manager); err != nil {
					return err
				}
				manager.AccessLog, manager.HttpFilters, manager.Tracing = nil, nil, nil
				manager.RequestIdExtension = nil
				reduced = manager
			} else if filter.GetTypedConfig().MessageIs(proxy) {
				if err := filter.GetTypedConfig().UnmarshalTo(proxy); err != nil {
					return err
				}
				proxy.AccessLog = nil
				reduced = proxy
			} else {
				continue
			}
			packed, err := anypb.New(reduced)
			if err != nil {
				return err
			}
			filter.ConfigType = &listener.Filter_TypedConfig{TypedConfig: packed}
			kept = append(kept, filter)
		}
		chain.Filters = kept
	}
	return nil
}

// reduceCluster leaves how pods are called, without certificates, and puts their addresses in.
func reduceCluster(one *cluster.Cluster, endpoints *endpoint.ClusterLoadAssignment) {
	one.TransportSocket, one.TransportSocketMatches = nil, nil
	one.Filters, one.Metadata = nil, nil
	if one.CommonLbConfig != nil {
		one.CommonLbConfig.LocalityConfigSpecifier = nil
	}
	if one.GetType() != cluster.Cluster_EDS {
		return
	}
	one.ClusterDiscoveryType = &cluster.Cluster_Type{Type: cluster.Cluster_STATIC}
	one.EdsClusterConfig = nil
	if endpoints == nil {
		endpoints = &endpoint.ClusterLoadAssignment{ClusterName: one.Name}
	}
	for _, some := range endpoints.Endpoints {
		some.Locality, some.LoadBalancingWeight, some.Metadata = nil, nil, nil
		for _, pod := range some.LbEndpoints {
			pod.Metadata = nil
		}
	}
	one.LoadAssignment = endpoints
}
