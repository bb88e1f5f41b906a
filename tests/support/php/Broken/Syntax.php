<?php

class {
