import io.netty.bootstrap.ServerBootstrap;
import io.netty.buffer.ByteBufUtil;
import io.netty.buffer.Unpooled;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInitializer;
import io.netty.channel.MultiThreadIoEventLoopGroup;
import io.netty.channel.SimpleChannelInboundHandler;
import io.netty.channel.nio.NioIoHandler;
import io.netty.channel.socket.SocketChannel;
import io.netty.channel.socket.nio.NioServerSocketChannel;
import io.netty.handler.codec.http.DefaultFullHttpResponse;
import io.netty.handler.codec.http.FullHttpRequest;
import io.netty.handler.codec.http.HttpObjectAggregator;
import io.netty.handler.codec.http.HttpResponseStatus;
import io.netty.handler.codec.http.HttpServerCodec;
import io.netty.handler.codec.http.HttpUtil;
import io.netty.handler.codec.http.HttpVersion;
import io.undertow.Undertow;
import io.undertow.util.HttpString;
import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.security.MessageDigest;
import java.util.Collections;
import java.util.HexFormat;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.catalina.connector.Connector;
import org.apache.catalina.startup.Tomcat;
import org.eclipse.jetty.io.Content;
import org.eclipse.jetty.server.Handler;
import org.eclipse.jetty.server.Request;
import org.eclipse.jetty.server.Response;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;
import org.eclipse.jetty.util.Callback;

/** Tomcat, Jetty, Undertow and Netty, which answer with what they have read. The arguments are their ports. */
public class Upstreams {
  public static void main(String[] ports) throws Exception {
    tomcat(Integer.parseInt(ports[0]));
    jetty(Integer.parseInt(ports[1]));
    undertow(Integer.parseInt(ports[2]));
    netty(Integer.parseInt(ports[3]));
    Thread.currentThread().join();
  }

  /** What a server has read of one request. */
  static class Reading {
    final StringBuilder text = new StringBuilder();
    final String read;

    Reading(AtomicInteger count, String method, String target) {
      read = count.incrementAndGet() + " " + method;
      text.append(read).append(' ').append(target).append('\n');
    }

    void field(String name, String value) {
      text.append(name).append(' ').append(HexFormat.of().formatHex(value.getBytes(StandardCharsets.ISO_8859_1))).append('\n');
    }

    byte[] end(byte[] body) {
      try {
        byte[] hash = MessageDigest.getInstance("SHA-256").digest(body);
        text.append('\n').append(body.length).append(' ').append(HexFormat.of().formatHex(hash)).append('\n');
      } catch (java.security.NoSuchAlgorithmException e) {
        throw new IllegalStateException(e);
      }
      return text.toString().getBytes(StandardCharsets.ISO_8859_1);
    }
  }

  static void tomcat(int port) throws Exception {
    Tomcat tomcat = new Tomcat();
    tomcat.setBaseDir(Files.createTempDirectory("tomcat").toString());
    Connector connector = new Connector();
    connector.setPort(port);
    connector.setProperty("address", "127.0.0.1");
    tomcat.setConnector(connector);
    AtomicInteger count = new AtomicInteger();
    var context = tomcat.addContext("", null);
    Tomcat.addServlet(context, "reader", new HttpServlet() {
      @Override
      protected void service(HttpServletRequest request, HttpServletResponse response) throws IOException {
        String query = request.getQueryString();
        Reading reading = new Reading(count, request.getMethod(), request.getRequestURI() + (query == null ? "" : "?" + query));
        for (String name : Collections.list(request.getHeaderNames())) {
          for (String value : Collections.list(request.getHeaders(name))) {
            reading.field(name, value);
          }
        }
        byte[] text = reading.end(request.getInputStream().readAllBytes());
        response.setHeader("X-Read", reading.read);
        response.setContentLength(text.length);
        response.getOutputStream().write(text);
      }
    });
    context.addServletMappingDecoded("/*", "reader");
    tomcat.start();
  }

  static void jetty(int port) throws Exception {
    Server server = new Server();
    ServerConnector connector = new ServerConnector(server, 1, 1);
    connector.setHost("127.0.0.1");
    connector.setPort(port);
    server.addConnector(connector);
    AtomicInteger count = new AtomicInteger();
    server.setHandler(new Handler.Abstract() {
      @Override
      public boolean handle(Request request, Response response, Callback callback) throws Exception {
        Reading reading = new Reading(count, request.getMethod(), request.getHttpURI().getPathQuery());
        request.getHeaders().forEach(field -> reading.field(field.getName(), field.getValue() == null ? "" : field.getValue()));
        byte[] body;
        try (InputStream in = Content.Source.asInputStream(request)) {
          body = in.readAllBytes();
        }
        byte[] text = reading.end(body);
        response.getHeaders().put("X-Read", reading.read);
        response.getHeaders().put("Content-Length", text.length);
        response.write(true, ByteBuffer.wrap(text), callback);
        return true;
      }
    });
    server.start();
  }

  static void undertow(int port) {
    AtomicInteger count = new AtomicInteger();
    Undertow.builder().addHttpListener(port, "127.0.0.1").setIoThreads(1).setWorkerThreads(4).setHandler(exchange -> {
      if (exchange.isInIoThread()) {
        exchange.dispatch(exchange.getDispatchExecutor(), () -> undertow(exchange, count));
      } else {
        undertow(exchange, count);
      }
    }).build().start();
  }

  static void undertow(io.undertow.server.HttpServerExchange exchange, AtomicInteger count) {
    exchange.startBlocking();
    String query = exchange.getQueryString();
    Reading reading = new Reading(count, exchange.getRequestMethod().toString(), exchange.getRequestURI() + (query.isEmpty() ? "" : "?" + query));
    exchange.getRequestHeaders().forEach(values -> values.forEach(value -> reading.field(values.getHeaderName().toString(), value)));
    try {
      byte[] text = reading.end(exchange.getInputStream().readAllBytes());
      exchange.getResponseHeaders().put(new HttpString("X-Read"), reading.read);
      exchange.setResponseContentLength(text.length);
      exchange.getResponseSender().send(ByteBuffer.wrap(text));
    } catch (IOException e) {
      exchange.endExchange();
    }
  }

  static void netty(int port) throws Exception {
    AtomicInteger count = new AtomicInteger();
    new ServerBootstrap().group(new MultiThreadIoEventLoopGroup(1, NioIoHandler.newFactory())).channel(NioServerSocketChannel.class).childHandler(new ChannelInitializer<SocketChannel>() {
      @Override
      protected void initChannel(SocketChannel channel) {
        channel.pipeline().addLast(new HttpServerCodec(), new HttpObjectAggregator(1 << 20), new SimpleChannelInboundHandler<FullHttpRequest>() {
          @Override
          protected void channelRead0(ChannelHandlerContext context, FullHttpRequest request) {
            if (request.decoderResult().isFailure()) {
              context.close();
              return;
            }
            Reading reading = new Reading(count, request.method().name(), request.uri());
            request.headers().forEach(field -> reading.field(field.getKey(), field.getValue()));
            byte[] text = reading.end(ByteBufUtil.getBytes(request.content()));
            DefaultFullHttpResponse response = new DefaultFullHttpResponse(HttpVersion.HTTP_1_1, HttpResponseStatus.OK, Unpooled.wrappedBuffer(text));
            response.headers().set("X-Read", reading.read).set("Content-Length", text.length);
            if (request.method().name().equals("HEAD")) {
              response = (DefaultFullHttpResponse) response.replace(Unpooled.EMPTY_BUFFER);
            }
            boolean keep = HttpUtil.isKeepAlive(request);
            var written = context.writeAndFlush(response);
            if (!keep) {
              written.addListener(io.netty.channel.ChannelFutureListener.CLOSE);
            }
          }
        });
      }
    }).bind("127.0.0.1", port).sync();
  }
}
