vcl 4.1;
backend reader { .host = "127.0.0.1"; .port = "$READER_PORT"; }
sub vcl_recv { return (pass); }
