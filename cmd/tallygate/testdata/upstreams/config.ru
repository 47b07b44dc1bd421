# A Rack application that answers with what puma has read.
require "digest"

count = 0
lock = Mutex.new

run lambda { |env|
  number = lock.synchronize { count += 1 }
  body = env["rack.input"].read || ""
  lines = ["#{number} #{env["REQUEST_METHOD"]} #{env["REQUEST_URI"]}"]
  env.each do |key, value|
    next unless key.start_with?("HTTP_") || %w[CONTENT_LENGTH CONTENT_TYPE].include?(key)
    lines << "#{key.delete_prefix("HTTP_")} #{value.unpack1("H*")}"
  end
  lines.push("", "#{body.bytesize} #{Digest::SHA256.hexdigest(body)}", "")
  text = lines.join("\n")
  [200, { "Content-Length" => text.bytesize.to_s, "X-Read" => "#{number} #{env["REQUEST_METHOD"]}" }, [text]]
}
