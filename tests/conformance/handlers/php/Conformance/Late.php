<?php

declare(strict_types=1);

namespace Conformance;

final class Late extends Hang
{
}
