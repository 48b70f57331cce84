#include "harness/core/json_text.hpp"

#include <algorithm>
#include <utility>

namespace harness {

namespace {

using nlohmann::json;

constexpr size_t kMaxDepth = 64;
constexpr size_t kShownLength = 60;

std::string line_and_column(std::string_view text, size_t position) {
  const std::string_view before = text.substr(0, std::min(position > 0 ? position - 1 : 0, text.size()));
  const size_t line = 1 + static_cast<size_t>(std::count(before.begin(), before.end(), '\n'));
  const size_t last = before.rfind('\n');
  const size_t column = 1 + before.size() - (last == std::string_view::npos ? 0 : last + 1);
  return "line " + std::to_string(line) + ", column " + std::to_string(column);
}

// The reason in nlohmann's message, without place and token: "expected string literal".
std::string reason_of(const std::string& message) {
  for (const char* mark : {"; expected ", "invalid string: ", "invalid number; ", "invalid "}) {
    const size_t begin = message.find(mark);
    if (begin == std::string::npos) continue;
    const size_t end = message.find("; last read", begin);
    return message.substr(begin + (mark[0] == ';' ? 2 : 0), end == std::string::npos ? end : end - begin);
  }
  return "";
}

// Builds the document, and reports what the library's own parser accepts: duplicate keys, any depth.
class DocumentBuilder final : public nlohmann::json_sax<json> {
 public:
  DocumentBuilder(std::string_view text, std::string file, std::vector<Problem>* problems)
      : text_(text), file_(std::move(file)), problems_(problems) {}

  bool null() override { return put(nullptr); }
  bool boolean(bool value) override { return put(value); }
  bool number_integer(number_integer_t value) override { return put(value); }
  bool number_unsigned(number_unsigned_t value) override { return put(value); }
  bool number_float(number_float_t value, const string_t&) override { return put(value); }
  bool string(string_t& value) override { return put(std::move(value)); }
  bool binary(binary_t& value) override { return put(json::binary(value)); }
  bool start_object(size_t) override { return open(json::object()); }
  bool end_object() override { return close(); }
  bool start_array(size_t) override { return open(json::array()); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    if (open_.back().value->contains(name)) {
      problems_->push_back(
          {file_, pointer_to(pointer(), name), "the key twice in one object", "it once", ""});
    }
    open_.back().key = std::move(name);
    return true;
  }

  bool parse_error(size_t position, const std::string& token, const json::exception& error) override {
    std::string found = quote_text(token);
    if (position > text_.size() && token.find_first_not_of(" \n\r\t") == std::string::npos) {
      found = "the end of the file";
    }
    const std::string reason = reason_of(error.what());
    problems_->push_back({file_, line_and_column(text_, position), found,
                          reason.empty() ? "valid JSON" : "valid JSON (" + reason + ")", ""});
    return false;
  }

  json take() { return std::move(root_); }

 private:
  struct Open {
    json* value;
    std::string key;
  };

  std::string pointer() const {
    std::string result;
    for (size_t i = 0; i + 1 < open_.size(); ++i) {
      const json& value = *open_[i].value;
      result = pointer_to(result, value.is_array() ? std::to_string(value.size() - 1) : open_[i].key);
    }
    return result;
  }

  json* place(json value) {
    if (open_.empty()) return &(root_ = std::move(value));
    Open& parent = open_.back();
    if (parent.value->is_array()) return &parent.value->emplace_back(std::move(value));
    return &((*parent.value)[parent.key] = std::move(value));
  }

  bool put(json value) {
    place(std::move(value));
    return true;
  }

  bool open(json value) {
    open_.push_back({place(std::move(value)), ""});
    if (open_.size() <= kMaxDepth) return true;
    problems_->push_back({file_, pointer().substr(0, kShownLength),
                          "more than " + std::to_string(kMaxDepth) + " values inside one another",
                          "an ordinary document", ""});
    return false;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  std::string_view text_;
  std::string file_;
  std::vector<Problem>* problems_;
  json root_;
  std::vector<Open> open_;
};

}  // namespace

std::optional<json> parse_json(std::string_view text, const std::string& file,
                               std::vector<Problem>* problems) {
  DocumentBuilder builder(text, file, problems);
  if (!json::sax_parse(text, &builder)) return std::nullopt;
  return builder.take();
}

std::string quote_text(const std::string& text) {
  std::string shown = json(text).dump(-1, ' ', false, json::error_handler_t::replace);
  if (shown.size() <= kShownLength) return shown;
  size_t end = kShownLength;
  while (end > 1 && (static_cast<unsigned char>(shown[end]) & 0xc0) == 0x80) --end;  // keep UTF-8 whole
  return shown.substr(0, end) + "...\"";
}

std::string describe(const json& value) {
  switch (value.type()) {
    case json::value_t::string:
      return "text " + quote_text(value.get<std::string>());
    case json::value_t::array:
      return value.empty() ? "an empty list" : "a list of " + std::to_string(value.size());
    case json::value_t::object:
      return value.empty() ? "an empty object" : "an object";
    default:
      return value.dump();
  }
}

std::string pointer_to(const std::string& parent, const std::string& key) {
  std::string result = parent + '/';
  for (const char letter : key) {
    if (letter == '~') {
      result += "~0";
    } else if (letter == '/') {
      result += "~1";
    } else {
      result += letter;
    }
  }
  return result;
}

}  // namespace harness
