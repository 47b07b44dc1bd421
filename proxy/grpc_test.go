package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	grpccodes "google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpki"
)

// A grpcServer is the upstream of the gRPC tests.
type grpcServer struct {
	pb.UnimplementedTestServiceServer
	metadata chan metadata.MD
	left     chan error
}

func newGRPCServer(t *testing.T, options ...grpc.ServerOption) (*grpcServer, net.Listener) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &grpcServer{metadata: make(chan metadata.MD, 8), left: make(chan error, 8)}
	server := grpc.NewServer(append(options, grpc.MaxRecvMsgSize(16<<20))...)
	pb.RegisterTestServiceServer(server, g)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		<-served
	})
	return g, l
}

// receive returns the next value from the upstream.
func receive[T any](t *testing.T, from chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(10 * time.Second):
		t.Fatal("no value from the upstream within the timeout")
	}
	return v
}

// UnaryCall returns the payload, or the requested status, with trailers. One trailer has the name of an
// identity header.
func (g *grpcServer) UnaryCall(ctx context.Context, r *pb.SimpleRequest) (*pb.SimpleResponse, error) {
	said, _ := metadata.FromIncomingContext(ctx)
	g.metadata <- said
	_ = grpc.SetHeader(ctx, metadata.Pairs("seen", "yes", "tallygate-partner", "leaked"))
	_ = grpc.SetTrailer(ctx, metadata.Pairs("checksum", "abc", "tallygate-partner", "leaked", "client-cert", "leaked"))
	if s := r.GetResponseStatus(); s != nil {
		return nil, status.Error(grpccodes.Code(s.GetCode()), s.GetMessage())
	}
	return &pb.SimpleResponse{Payload: r.GetPayload()}, nil
}

// StreamingOutputCall sends one message for each response parameter.
func (g *grpcServer) StreamingOutputCall(r *pb.StreamingOutputCallRequest, stream grpc.ServerStreamingServer[pb.StreamingOutputCallResponse]) error {
	for _, p := range r.GetResponseParameters() {
		if err := stream.Send(&pb.StreamingOutputCallResponse{Payload: &pb.Payload{Body: make([]byte, p.GetSize())}}); err != nil {
			return err
		}
	}
	return nil
}

// StreamingInputCall returns the total size of the received payloads.
func (g *grpcServer) StreamingInputCall(stream grpc.ClientStreamingServer[pb.StreamingInputCallRequest, pb.StreamingInputCallResponse]) error {
	var sum int32
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(&pb.StreamingInputCallResponse{AggregatedPayloadSize: sum})
		}
		if err != nil {
			return err
		}
		sum += int32(len(r.GetPayload().GetBody()))
	}
}

// FullDuplexCall returns each message before it reads the next.
func (g *grpcServer) FullDuplexCall(stream grpc.BidiStreamingServer[pb.StreamingOutputCallRequest, pb.StreamingOutputCallResponse]) error {
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			stream.SetTrailer(metadata.Pairs("checksum", "abc"))
			return nil
		}
		if err != nil {
			g.left <- err
			return err
		}
		if err := stream.Send(&pb.StreamingOutputCallResponse{Payload: r.GetPayload()}); err != nil {
			return err
		}
	}
}

// withGRPC makes the API the gRPC test service.
func withGRPC(t *testing.T, protocol config.UpstreamProtocol) func(*config.Config) {
	return func(cfg *config.Config) {
		api := &cfg.APIs[0]
		api.Upstream.Protocol = protocol
		if err := api.Routes[0].Path.UnmarshalText([]byte("/grpc.testing.TestService/{method}")); err != nil {
			t.Fatal(err)
		}
	}
}

// dialGRPC returns a client with the given credentials.
func dialGRPC(t *testing.T, s *harness, address, token string) pb.TestServiceClient {
	t.Helper()
	settings := s.clientConfig("h2")
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(settings)), grpc.WithAuthority("api.example.test"),
		grpc.WithPerRPCCredentials(bearer(token)), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16<<20)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return pb.NewTestServiceClient(conn)
}

type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b), "tallygate-partner": "admin"}, nil
}
func (bearer) RequireTransportSecurity() bool { return true }

// TestGRPC checks that a real client and a real server can use gRPC through the gate.
func TestGRPC(t *testing.T) {
	server := testpki.SelfSigned("upstream", testpki.DNS("upstream.example"))
	for _, protocol := range []config.UpstreamProtocol{config.H2, config.H2C} {
		t.Run(string(protocol), func(t *testing.T) {
			log := &gatetest.Log{}
			own := credentials.NewServerTLSFromCert(&tls.Certificate{Certificate: server.TLS().Certificate, PrivateKey: server.Key})
			scheme := "https://"
			if protocol == config.H2C {
				own, scheme = insecure.NewCredentials(), "http://"
			}
			up, l := newGRPCServer(t, grpc.Creds(own))
			trust, _ := server.Write(t.TempDir(), "upstream")
			s := newHarness(t, scheme+l.Addr().String(), log, withGRPC(t, protocol), func(cfg *config.Config) {
				if protocol == config.H2 {
					cfg.APIs[0].Upstream.TLS = config.UpstreamTLS{Trust: []config.Path{config.Path(trust)}, ServerName: "upstream.example"}
				}
			})
			client := dialGRPC(t, s, s.listen(t), s.token)
			t.Run("unary", func(t *testing.T) { unary(t, up, client) })
			t.Run("statuses", func(t *testing.T) { statuses(t, up, client) })
			t.Run("large messages", func(t *testing.T) { largeMessages(t, up, client) })
			t.Run("streams", func(t *testing.T) { streams(t, client) })
			t.Run("both ways", func(t *testing.T) { bothWays(t, up, client) })
			for line := range strings.Lines(log.String()) {
				if !strings.Contains(line, `"reason":"granted"`) {
					t.Errorf("log line = %s", line)
				}
			}
		})
	}
}

func unary(t *testing.T, up *grpcServer, client pb.TestServiceClient) {
	var header, trailer metadata.MD
	answer, err := client.UnaryCall(t.Context(), &pb.SimpleRequest{Payload: &pb.Payload{Body: []byte("hello")}}, grpc.Header(&header), grpc.Trailer(&trailer))
	if err != nil || string(answer.GetPayload().GetBody()) != "hello" {
		t.Fatalf("UnaryCall returned %v, %v", answer, err)
	}
	said := receive(t, up.metadata)
	if got := said.Get("tallygate-partner"); len(got) != 1 || got[0] != "northwind" || len(said.Get("authorization")) > 0 {
		t.Errorf("metadata at the upstream = %v", said)
	}
	if header.Get("seen") == nil || trailer.Get("checksum") == nil {
		t.Errorf("header %v, trailer %v", header, trailer)
	}
	if header.Get("tallygate-partner") != nil || trailer.Get("tallygate-partner") != nil || trailer.Get("client-cert") != nil {
		t.Errorf("identity headers reach the client: header %v, trailer %v", header, trailer)
	}
}

// An error is sent in the trailer, after a message or without one.
func statuses(t *testing.T, up *grpcServer, client pb.TestServiceClient) {
	for _, code := range []grpccodes.Code{grpccodes.NotFound, grpccodes.FailedPrecondition, grpccodes.Internal} {
		var trailer metadata.MD
		_, err := client.UnaryCall(t.Context(), &pb.SimpleRequest{ResponseStatus: &pb.EchoStatus{Code: int32(code), Message: "told by é trailers"}}, grpc.Trailer(&trailer))
		if s := status.Convert(err); s.Code() != code || s.Message() != "told by é trailers" || trailer.Get("checksum") == nil || trailer.Get("client-cert") != nil {
			t.Errorf("status %v arrived as %v, trailer %v", code, s, trailer)
		}
		receive(t, up.metadata)
	}
	if _, err := client.EmptyCall(t.Context(), &pb.Empty{}); status.Code(err) != grpccodes.Unimplemented {
		t.Errorf("call of an unknown method returned %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	stream, err := client.FullDuplexCall(ctx)
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != grpccodes.DeadlineExceeded {
		t.Errorf("call beyond its deadline returned %v", err)
	}
	_ = receive(t, up.left)
}

func largeMessages(t *testing.T, up *grpcServer, client pb.TestServiceClient) {
	large := bytes.Repeat([]byte("0123456789abcdef"), 8<<20/16)
	answer, err := client.UnaryCall(t.Context(), &pb.SimpleRequest{Payload: &pb.Payload{Body: large}})
	if err != nil || !bytes.Equal(answer.GetPayload().GetBody(), large) {
		t.Errorf("payload of 8 MiB returned as %d bytes, %v", len(answer.GetPayload().GetBody()), err)
	}
	receive(t, up.metadata)
}

func streams(t *testing.T, client pb.TestServiceClient) {
	request := &pb.StreamingOutputCallRequest{}
	for _, size := range []int32{31415, 9, 1 << 20, 58979} {
		request.ResponseParameters = append(request.ResponseParameters, &pb.ResponseParameters{Size: size})
	}
	output, err := client.StreamingOutputCall(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range request.GetResponseParameters() {
		if r, err := output.Recv(); err != nil || len(r.GetPayload().GetBody()) != int(p.GetSize()) {
			t.Fatalf("payload of %d bytes returned as %d bytes, %v", p.GetSize(), len(r.GetPayload().GetBody()), err)
		}
	}
	if _, err := output.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ends with %v", err)
	}
	input, err := client.StreamingInputCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if err := input.Send(&pb.StreamingInputCallRequest{Payload: &pb.Payload{Body: make([]byte, 1000)}}); err != nil {
			t.Fatal(err)
		}
	}
	if sum, err := input.CloseAndRecv(); err != nil || sum.GetAggregatedPayloadSize() != 100_000 {
		t.Errorf("StreamingInputCall returned %v, %v", sum, err)
	}
}

// The client sends each message after the response to the message before it. The upstream notices a
// cancelling client.
func bothWays(t *testing.T, up *grpcServer, client pb.TestServiceClient) {
	ctx, cancel := context.WithCancel(t.Context())
	for _, cancelled := range []bool{false, true} {
		stream, err := client.FullDuplexCall(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{"one", "two", strings.Repeat("three", 10_000)} {
			if err := stream.Send(&pb.StreamingOutputCallRequest{Payload: &pb.Payload{Body: []byte(text)}}); err != nil {
				t.Fatal(err)
			}
			if r, err := stream.Recv(); err != nil || string(r.GetPayload().GetBody()) != text {
				t.Fatalf("message %.10s returned as %.10v, %v", text, r, err)
			}
		}
		if cancelled {
			cancel()
			_ = receive(t, up.left)
			continue
		}
		if err := stream.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); !errors.Is(err, io.EOF) || stream.Trailer().Get("checksum") == nil {
			t.Errorf("the stream ends with %v and %v", err, stream.Trailer())
		}
	}
	cancel()
}

// TestGRPCStreamEnds checks that a stream may pause for longer than the stall timeout, that it ends when
// it is no longer granted, and that a refused call gets the gRPC code of the HTTP status.
func TestGRPCStreamEnds(t *testing.T) {
	up, l := newGRPCServer(t)
	log := &gatetest.Log{}
	s := newHarness(t, "http://"+l.Addr().String(), log, withGRPC(t, config.H2C), func(cfg *config.Config) { cfg.Listener.Limits.StallTimeout = 100 * time.Millisecond })
	address := s.listen(t)
	client := dialGRPC(t, s, address, s.token)
	stream, err := client.FullDuplexCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	exchange := func() error {
		if err := stream.Send(&pb.StreamingOutputCallRequest{}); err != nil {
			return err
		}
		_, err := stream.Recv()
		return err
	}
	for range 3 {
		time.Sleep(300 * time.Millisecond)
		if err := exchange(); err != nil {
			t.Fatal(err)
		}
	}
	s.next(t, withGRPC(t, config.H2C), func(cfg *config.Config) { cfg.Partners.List[0].Disabled = true })
	if _, err := stream.Recv(); status.Code(err) != grpccodes.Internal { // the gate ends the stream by RST_STREAM
		t.Errorf("the stream ends with %v", err)
	}
	_ = receive(t, up.left)
	if line := log.Wait(t, `"msg":"request"`); !strings.Contains(line, `"terminated_by":"partner_disabled"`) {
		t.Errorf("log line = %s", line)
	}
	_, err = dialGRPC(t, s, address, "x").UnaryCall(t.Context(), &pb.SimpleRequest{})
	if status.Code(err) != grpccodes.Unauthenticated {
		t.Errorf("call with a bad token returned %v", err)
	}
}

// TestTE checks that of all values of TE only trailers is forwarded.
func TestTE(t *testing.T) {
	upstream := make(chan string, 1)
	server := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { upstream <- r.Header.Get("Te") })
	for _, protocol := range []config.UpstreamProtocol{config.HTTP1, config.H2C} {
		l := serveUpstream(t, server, nil)
		s := newHarness(t, "http://"+l, io.Discard, func(cfg *config.Config) { cfg.APIs[0].Upstream.Protocol = protocol })
		address := s.listen(t)
		for sent, want := range map[string]string{"trailers": "trailers", "": ""} {
			transport := &http.Transport{TLSClientConfig: s.clientConfig("h2"), ForceAttemptHTTP2: true}
			r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+address+"/accounts/7", nil)
			r.Host = "api.example.test"
			r.Header.Set("Authorization", "Bearer "+s.token)
			if sent != "" {
				r.Header.Set("Te", sent)
			}
			answer, err := transport.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			_ = answer.Body.Close()
			if te := <-upstream; te != want {
				t.Errorf("%s: TE %q forwarded as %q", protocol, sent, te)
			}
			transport.CloseIdleConnections()
		}
	}
}
