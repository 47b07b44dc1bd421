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

// come returns what the upstream is to tell.
func receive[T any](t *testing.T, from chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(10 * time.Second):
		t.Fatal("the upstream does not tell")
	}
	return v
}

// UnaryCall sends back the payload, or the status that is asked for, with trailers of which
// one would speak for the gate.
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

// StreamingOutputCall sends as many answers as parameters are asked for.
func (g *grpcServer) StreamingOutputCall(r *pb.StreamingOutputCallRequest, stream grpc.ServerStreamingServer[pb.StreamingOutputCallResponse]) error {
	for _, p := range r.GetResponseParameters() {
		if err := stream.Send(&pb.StreamingOutputCallResponse{Payload: &pb.Payload{Body: make([]byte, p.GetSize())}}); err != nil {
			return err
		}
	}
	return nil
}

// StreamingInputCall sums up what comes.
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

// FullDuplexCall sends back each message before it takes the next.
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

// forGRPC lets the API be that service.
func withGRPC(t *testing.T, protocol config.UpstreamProtocol) func(*config.Config) {
	return func(cfg *config.Config) {
		api := &cfg.APIs[0]
		api.Upstream.Protocol = protocol
		if err := api.Routes[0].Path.UnmarshalText([]byte("/grpc.testing.TestService/{method}")); err != nil {
			t.Fatal(err)
		}
	}
}

// dialGRPC returns a client with these credentials.
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

// A real client and a real server speak gRPC through the gate, as they do without it.
func TestGRPC(t *testing.T) {
	server := testpki.SelfSigned("upstream", testpki.DNS("upstream.example"))
	for _, protocol := range []config.UpstreamProtocol{config.H2, config.H2C} {
		t.Run(string(protocol), func(t *testing.T) {
			log := &lines{}
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
					t.Errorf("the log says %s", line)
				}
			}
		})
	}
}

func unary(t *testing.T, up *grpcServer, client pb.TestServiceClient) {
	var header, trailer metadata.MD
	answer, err := client.UnaryCall(t.Context(), &pb.SimpleRequest{Payload: &pb.Payload{Body: []byte("hello")}}, grpc.Header(&header), grpc.Trailer(&trailer))
	if err != nil || string(answer.GetPayload().GetBody()) != "hello" {
		t.Fatalf("answered %v, %v", answer, err)
	}
	said := receive(t, up.metadata)
	if got := said.Get("tallygate-partner"); len(got) != 1 || got[0] != "northwind" || len(said.Get("authorization")) > 0 {
		t.Errorf("the upstream is told %v", said)
	}
	if header.Get("seen") == nil || trailer.Get("checksum") == nil {
		t.Errorf("header %v, trailer %v", header, trailer)
	}
	if header.Get("tallygate-partner") != nil || trailer.Get("tallygate-partner") != nil || trailer.Get("client-cert") != nil {
		t.Errorf("identities leak: header %v, trailer %v", header, trailer)
	}
}

// An error is a trailer, after an answer or in place of one.
func statuses(t *testing.T, up *grpcServer, client pb.TestServiceClient) {
	for _, code := range []grpccodes.Code{grpccodes.NotFound, grpccodes.FailedPrecondition, grpccodes.Internal} {
		var trailer metadata.MD
		_, err := client.UnaryCall(t.Context(), &pb.SimpleRequest{ResponseStatus: &pb.EchoStatus{Code: int32(code), Message: "told by é trailers"}}, grpc.Trailer(&trailer))
		if s := status.Convert(err); s.Code() != code || s.Message() != "told by é trailers" || trailer.Get("checksum") == nil || trailer.Get("client-cert") != nil {
			t.Errorf("%v became %v with %v", code, s, trailer)
		}
		receive(t, up.metadata)
	}
	if _, err := client.EmptyCall(t.Context(), &pb.Empty{}); status.Code(err) != grpccodes.Unimplemented {
		t.Errorf("a method that is none: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	stream, err := client.FullDuplexCall(ctx)
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != grpccodes.DeadlineExceeded {
		t.Errorf("a deadline: %v", err)
	}
	_ = receive(t, up.left)
}

func largeMessages(t *testing.T, up *grpcServer, client pb.TestServiceClient) {
	large := bytes.Repeat([]byte("0123456789abcdef"), 8<<20/16)
	answer, err := client.UnaryCall(t.Context(), &pb.SimpleRequest{Payload: &pb.Payload{Body: large}})
	if err != nil || !bytes.Equal(answer.GetPayload().GetBody(), large) {
		t.Errorf("8 MiB come back as %d bytes, %v", len(answer.GetPayload().GetBody()), err)
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
			t.Fatalf("%d bytes come as %d, %v", p.GetSize(), len(r.GetPayload().GetBody()), err)
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
		t.Errorf("the sum is %v, %v", sum, err)
	}
}

// Each message is answered before the next is sent; and a client that cancels is noticed.
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
				t.Fatalf("%.10s comes back as %.10v, %v", text, r, err)
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

// A stream that is quiet for longer than a body may stall goes on, one whose reason is gone
// ends, and a client whose call is refused is told by the code that stands for the status.
func TestGRPCStreamEnds(t *testing.T) {
	up, l := newGRPCServer(t)
	log := &lines{}
	s := newHarness(t, "http://"+l.Addr().String(), log, withGRPC(t, config.H2C), func(cfg *config.Config) { cfg.Listener.Limits.StallTimeout = 300 * time.Millisecond })
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
		time.Sleep(time.Second)
		if err := exchange(); err != nil {
			t.Fatal(err)
		}
	}
	s.next(t, withGRPC(t, config.H2C), func(cfg *config.Config) { cfg.Partners.List[0].Disabled = true })
	if _, err := stream.Recv(); status.Code(err) != grpccodes.Internal { // by RST_STREAM
		t.Errorf("the stream ends with %v", err)
	}
	_ = receive(t, up.left)
	if line := log.wait(t, `"msg":"request"`); !strings.Contains(line, `"terminated_by":"partner_disabled"`) {
		t.Errorf("the log says %s", line)
	}
	_, err = dialGRPC(t, s, address, "x").UnaryCall(t.Context(), &pb.SimpleRequest{})
	if status.Code(err) != grpccodes.Unauthenticated {
		t.Errorf("a bad token: %v", err)
	}
}

// TE tells an upstream that trailers are understood. It is the one value that passes.
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
				t.Errorf("%s: TE %q arrives as %q", protocol, sent, te)
			}
			transport.CloseIdleConnections()
		}
	}
}
